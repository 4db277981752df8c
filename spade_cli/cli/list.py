"""spade list: the runs there are, with their key figures."""

from pathlib import Path

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.arguments import Command, Setting, read_arguments, read_path
from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.report.runs import find_runs, key_figures
from spade_cli.report.summary import Summary, read_summary

HEADER = ("run", "target", "dense", "trace", "agreement", "sparsity", "seconds", "flags")
NUMBERS = ("dense", "trace", "agreement", "sparsity", "seconds", "flags")
COMMAND = Command(
    "list",
    __doc__,
    "spade list [out=FOLDER]",
    words=(("FOLDER", ""),),  # an older way to write out=FOLDER
    settings=(Setting("out", "outputs", "the folder that the runs are in, as it was given to spade run", read_path),),
    examples=("spade list", "spade list out=explained --json"),
)


def main(arguments: list[str]) -> int:
    """Print a line for each run, the latest last; with --json one object a line."""
    given = read_arguments(COMMAND, arguments)
    if given is None:
        return 0
    if given.words:
        terminal.hint(f"write out={given.words[0]}; a bare folder is an older way")
    folder: Path = expand_path(given.words[0]) if given.words else given.settings["out"]
    if not folder.is_dir():
        raise UserError(
            f"out={folder}: no such folder; give the one that holds your runs, or make a run with spade run"
        )
    runs = [(run, read_summary(run)) for run in find_runs(folder)]
    if terminal.as_json(given.views):
        terminal.print_objects([{"run": str(run), **key_figures(summary)} for run, summary in runs])
    elif runs:
        terminal.print_table(HEADER, [_row(run, summary) for run, summary in runs], given.views, right=NUMBERS)
    else:
        own_stdout.say(f"{folder} holds no run yet")
    return 0


def _row(run: Path, summary: Summary) -> tuple[str, ...]:
    dense, trace, fidelity = summary.prediction.dense, summary.prediction.trace, summary.fidelity
    changed = "" if fidelity.same_prediction else f" ({trace.label})"
    return (
        str(run),
        summary.target.words,
        f"{dense.target_probability:.1%}",
        f"{trace.target_probability:.1%}{changed}",
        f"{fidelity.agreement:.0%}",
        f"{summary.sparsity.achieved:.0%}",
        f"{summary.seconds['total']:.0f}",
        str(len(summary.flags)),
    )
