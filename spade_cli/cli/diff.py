"""spade diff: compare two runs of one network: the weights both traces kept, the channels that one uses only."""

import shlex
from pathlib import Path

from spade_cli.cli import terminal
from spade_cli.cli.arguments import Command, Setting, read_arguments, read_path
from spade_cli.cli.neurons import drawing_settings
from spade_cli.errors import UserError
from spade_cli.report.runs import find_run

TOP = 2  # channels of each layer and run: the page is to be read, and every picture takes seconds
RUN = ("RUN", "folder of a run, or a part of its name; FOLDER/PART where the runs are not in outputs")
COMMAND = Command(
    "diff",
    __doc__,
    "spade diff RUN RUN [KEY=VALUE ...]",
    words=(RUN, RUN),
    settings=(
        Setting("out", "diff.html", "the page to write", read_path),
        *drawing_settings(TOP),
        Setting("output", "outputs", "", read_path),  # an older word for where the runs are
    ),
    flags=(("--force", "replace the page where it exists"),),
    examples=("spade diff cat dog", "spade diff cat dog out=cat-dog.html layers=fc --force"),
)


def main(arguments: list[str]) -> int:
    """Compare, write the page and print its path."""
    given = read_arguments(COMMAND, arguments)
    if given is None:
        return 0
    if len(given.words) < 2:
        raise UserError(f"spade diff compares two runs: give RUN twice, not {len(given.words)} of them")
    out, runs_in = given.settings["out"], given.settings["output"]
    if runs_in != Path("outputs"):
        terminal.hint(f"write {runs_in}/{given.words[0]}; output is an older way to say where the runs are")
    _check_out(out, "--force" in given.flags)
    folders = {name: find_run(given.word(number), runs_in) for number, name in enumerate("AB")}
    from spade_cli.cli.config.model import source_of_run
    from spade_cli.devices import full_precision
    from spade_cli.inspection import compare_traces
    from spade_cli.inspection.rank_channels import choose_layers, draw_neurons
    from spade_cli.inspection.reopen import reopen
    from spade_cli.progress import Stages
    from spade_cli.report.channel_pages import write_difference

    stages, device = Stages(terminal.console(given.views)), given.settings["device"]
    with full_precision():
        with stages.stage("load"):
            runs = {name: reopen(folder, source_of_run(folder), device) for name, folder in folders.items()}
            compare_traces.check_same_network(runs)
            layers = choose_layers(runs["A"], given.settings["layers"])
            overlaps = compare_traces.measure_overlaps(runs)
            only = compare_traces.find_own_channels(runs, layers, given.settings["top"])
        networks = {name: run.trace for name, run in runs.items()}
        own, everyone = runs["A"].classifier.preprocessing, [one for listed in only.values() for one in listed]
        draw_neurons(networks, everyone, own, given.settings["steps"], runs["A"].summary.seed, stages)
    summaries = {name: run.summary for name, run in runs.items()}
    command = shlex.join(["spade", "diff", *arguments])
    views = {name: run.view for name, run in runs.items()}
    page = write_difference(out, summaries, folders, views, overlaps, only, command)
    terminal.print_result("page", page, given.views)
    return 0


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and not (force and out.is_file()):
        raise UserError(f"out={out} exists already: give another name, or --force to replace it")
    if not out.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {out.parent}; make it first")
