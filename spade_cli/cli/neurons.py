"""spade neurons: which channels carry a run's prediction, what they look for and where, as a page."""

import shlex
from argparse import Namespace
from pathlib import Path

from spade_cli.cli import terminal
from spade_cli.cli.plain import OneLineParser, parsed, parser
from spade_cli.errors import UserError
from spade_cli.paths import expanded
from spade_cli.runs import find_run

TOP, STEPS = 4, 256  # half of spade run's steps: there are many pictures, and channels need fewer than classes


def main(arguments: list[str]) -> int:
    """Rank the channels, draw them, write the page and print its path."""
    takes = parser("neurons", __doc__)
    takes.add_argument("run", metavar="RUN", nargs="?", help="folder of a run or a part of its name; default: latest")
    settings(takes, TOP)
    asked = parsed(takes, arguments)
    if asked is None:
        return 0
    check_counts(asked)
    run = find_run(None if asked.run is None else str(expanded(asked.run)), expanded(asked.output))
    from spade_cli import neurons
    from spade_cli.cli.source import source_of_run
    from spade_cli.devices import full_precision
    from spade_cli.progress import Stages
    from spade_cli.reopening import reopen
    from spade_cli.report.neurons import write_neurons

    stages = Stages(terminal.console(()))
    with full_precision():
        with stages.stage("load"):
            reopened = reopen(run, source_of_run(run), asked.device)
            ranked = neurons.rank(reopened, neurons.choose_layers(reopened, asked.layers), asked.top)
        own, seed = reopened.classifier.preprocessing, reopened.found["seed"]
        neurons.draw(reopened.networks, ranked, own, asked.steps, seed, stages)
    print(write_neurons(run, ranked, reopened.photograph, shlex.join(["spade", "neurons", *arguments])))
    return 0


def settings(takes: OneLineParser, top: int) -> None:
    """What every command that draws channels takes; `top` of each layer if no number is given."""
    takes.add_argument("--output", metavar="FOLDER", default="outputs", type=Path, help="where the runs are (outputs)")
    takes.add_argument("--top", metavar="N", default=top, type=int, help=f"channels of each layer and run ({top})")
    takes.add_argument(
        "--layers", metavar="GLOB", nargs="+", default=[], help="layers by name or pattern; default: the last pruned"
    )
    takes.add_argument(
        "--steps", metavar="N", default=STEPS, type=int, help=f"gradient steps per visualization ({STEPS})"
    )
    takes.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")


def check_counts(asked: Namespace) -> None:
    """UserError for a count below one."""
    for name in ("top", "steps"):
        if getattr(asked, name) < 1:
            raise UserError(f"--{name} {getattr(asked, name)}: give 1 or more")
