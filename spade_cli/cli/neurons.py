"""spade neurons: which channels carry a run's prediction, what they look for and where, and which feed which."""

import shlex
from pathlib import Path

from spade_cli.cache import Cache
from spade_cli.cli import terminal
from spade_cli.cli.arguments import (
    Command,
    Setting,
    read_arguments,
    read_count,
    read_list,
    read_path,
    read_switch,
    read_text,
)
from spade_cli.cli.config.check_values import cache_folder
from spade_cli.report.runs import find_run

EDGES = 3  # into each channel of the circuit: with more, the eye does not follow them
TOP, STEPS = 4, 64  # as many steps as spade run's default visualization


def drawing_settings(top: int) -> tuple[Setting, ...]:
    """What every command that draws channels takes; `top` of each layer if no number is given."""
    return (
        Setting("top", str(top), "channels of each layer and run", read_count),
        Setting("layers", "[]", "layers by name or pattern, such as [layer4.*,fc]; []: the last pruned", read_list),
        Setting("steps", str(STEPS), "gradient steps per visualization", read_count),
        Setting("device", "auto", "auto, cpu, cuda, cuda:N or mps"),
    )


def read_cache(key: str, text: str) -> Path | None:
    """A folder; auto is the user's own, and null none."""
    return cache_folder(key, read_text(key, text))


COMMAND = Command(
    "neurons",
    __doc__,
    "spade neurons [RUN] [KEY=VALUE ...]",
    words=(("RUN", "folder of a run, or a part of its name; default: the latest run"),),
    settings=(
        Setting("out", "outputs", "the folder that the runs are in, as it was given to spade run", read_path),
        *drawing_settings(TOP),
        Setting("images", "null", "FOLDER of pictures whose parts to show, or a pattern; null: samples of the image"),
        Setting(
            "relevance", "true", "the pixels that each channel reads, and the circuit: which feed which", read_switch
        ),
        Setting("edges", str(EDGES), "edges of the circuit into each channel, at most", read_count),
        Setting("cache", "auto", "folder that keeps the dense network's visualizations; null: none", read_cache),
    ),
    examples=(
        "spade neurons",
        "spade neurons cat edges=5 'layers=[layer3.5,layer4.2]'",
        "spade neurons cat top=8 'layers=[layer4.*,fc]' steps=64",
        "spade neurons cat images=photographs",
    ),
)


def main(arguments: list[str]) -> int:
    """Rank the channels, draw them, write the page and print its path."""
    given = read_arguments(COMMAND, arguments)
    if given is None:
        return 0
    run = find_run(given.word(0), given.settings["out"])
    from spade_cli.cli.config.model import source_of_run
    from spade_cli.devices import full_precision
    from spade_cli.inspection.find_circuit import add_relevance, find_circuit
    from spade_cli.inspection.find_patches import add_patches, choose_views
    from spade_cli.inspection.rank_channels import choose_layers, draw_neurons, rank_channels
    from spade_cli.inspection.reopen import reopen
    from spade_cli.progress import Stages
    from spade_cli.report.channel_pages import write_neurons

    console = terminal.console(given.views)
    stages = Stages(console)
    with full_precision():
        with stages.stage("load"):
            reopened = reopen(run, source_of_run(run), given.settings["device"])
            layers = choose_layers(reopened, given.settings["layers"])
            ranked = rank_channels(reopened, layers, given.settings["top"])
        classifier, seed, folder = reopened.classifier, reopened.summary.seed, given.settings["cache"]
        cache = None if folder is None else Cache(folder)
        steps = given.settings["steps"]
        asked, out = given.settings["images"], given.settings["out"]
        circuit, notes = None, list[str]()
        if given.settings["relevance"]:
            with stages.stage("relevance", total=len(reopened.networks)) as advance:
                found, notes = add_relevance(reopened, ranked, advance)
            circuit = find_circuit(reopened, ranked, found, given.settings["edges"])
        views, count, patches_of = choose_views(reopened, None if asked == "null" else asked, str(out))
        with stages.stage("patches", total=count) as advance:
            add_patches(reopened.networks, ranked, classifier.preprocessing, views, advance)
        draw_neurons(reopened.networks, ranked, classifier.preprocessing, steps, seed, stages, cache, classifier.name)
    command = shlex.join(["spade", "neurons", *arguments])
    page, record = write_neurons(run, ranked, reopened.view, command, patches_of, circuit, notes)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    terminal.print_result("page", page, given.views, run=str(run), **record)
    return 0
