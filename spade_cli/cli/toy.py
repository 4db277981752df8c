"""spade toy: the paper's two-dimensional example, trained and visualized in seconds."""

from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.config.compose import CommandLine, run_command

USAGE = "spade toy [out=PICTURE.png] [seed=NUMBER]"
EXAMPLES = ("spade toy", "spade toy seed=3 out=seed3.png")
SUFFIXES = (".png", ".pdf", ".svg")


def main(arguments: list[str]) -> int:
    """Compose the configuration, train, and draw the figure."""
    return run_command("toy", arguments, _toy, USAGE, EXAMPLES)


def _toy(config: dict[str, Any], line: CommandLine) -> None:
    from spade_cli.cli.config.check_values import path, whole
    from spade_cli.errors import UserError
    from spade_cli.files import write_whole
    from spade_cli.progress import Stages
    from spade_cli.world import toy

    out = path("out", config.get("out"), "toy.png")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"out={out} is not a kind of picture that can be written; end it with {', '.join(SUFFIXES)}")
    if not out.parent.is_dir():
        raise UserError(f"out={out}: there is no folder {out.parent}; make it, or give another")
    seed = whole("seed", config.get("seed"), 0)
    console = terminal.console(line.views)
    stages = Stages(console)
    with stages.stage("train", total=toy.STEPS) as advance:
        model = toy.train_network(seed, advance)
    with stages.stage("visualize"):
        shown = toy.visualize_networks(model, seed)
    write_whole(out, lambda path: toy.draw_toy(shown, path, out.suffix[1:].lower()))
    console.print(f"\n{'where visualizations land':<38}{'large disk':>12}{'small disk':>12}")
    for one in shown:
        console.print(f"{one.title:<38}{one.share(toy.LARGE):>12.0%}{one.share(toy.SMALL):>12.0%}")
    terminal.print_result("picture", out, line.views)
