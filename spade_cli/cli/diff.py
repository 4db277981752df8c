"""spade diff: compare two runs of one network: the weights both traces kept, the channels that one uses only."""

import shlex
from pathlib import Path

from spade_cli.cli import terminal
from spade_cli.cli.neurons import check_counts, settings
from spade_cli.cli.plain import parsed, parser
from spade_cli.errors import UserError
from spade_cli.paths import expanded
from spade_cli.runs import find_run

TOP = 2  # channels of each layer and run: the page is to be read, and every picture takes seconds


def main(arguments: list[str]) -> int:
    """Compare, write the page and print its path."""
    takes = parser("diff", __doc__)
    takes.add_argument("runs", metavar="RUN", nargs=2, help="folder of a run, or a part of its name")
    takes.add_argument("--out", metavar="FILE", default="diff.html", type=Path, help="the page to write (diff.html)")
    takes.add_argument("--force", action="store_true", help="replace the page where it exists")
    settings(takes, TOP)
    asked = parsed(takes, arguments)
    if asked is None:
        return 0
    check_counts(asked)
    out, output = expanded(asked.out), expanded(asked.output)
    if out.exists() and not (asked.force and out.is_file()):
        raise UserError(f"{out} exists already: give another name with --out, or --force to replace it")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first")
    folders = {name: find_run(str(expanded(run)), output) for name, run in zip("AB", asked.runs, strict=True)}
    from spade_cli import differences, neurons
    from spade_cli.cli.source import source_of_run
    from spade_cli.devices import full_precision
    from spade_cli.progress import Stages
    from spade_cli.reopening import reopen
    from spade_cli.report.difference import write_difference

    stages = Stages(terminal.console(()))
    with full_precision():
        with stages.stage("load"):
            runs = {name: reopen(folder, source_of_run(folder), asked.device) for name, folder in folders.items()}
            differences.check_same_network(runs)
            layers = neurons.choose_layers(runs["A"], asked.layers)
            overlaps = differences.overlaps(runs)
            only = differences.only_one(runs, layers, asked.top)
        networks = {name: run.trace for name, run in runs.items()}
        own, everyone = runs["A"].classifier.preprocessing, [one for listed in only.values() for one in listed]
        neurons.draw(networks, everyone, own, asked.steps, runs["A"].found["seed"], stages)
    found = {name: {**run.found, "run": str(run.run)} for name, run in runs.items()}
    photographs = {name: run.photograph for name, run in runs.items()}
    print(write_difference(out, found, photographs, overlaps, only, shlex.join(["spade", "diff", *arguments])))
    return 0
