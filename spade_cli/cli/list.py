"""spade list: the runs there are, with their key figures."""

import json
from pathlib import Path
from typing import Any

from spade_cli.cli.plain import parsed, parser, print_table
from spade_cli.errors import UserError
from spade_cli.paths import expanded
from spade_cli.runs import find_runs, key_figures, read_summary

HEADER = ("run", "target", "dense", "trace", "agreement", "sparsity", "seconds", "flags")
NUMBERS = ("dense", "trace", "agreement", "sparsity", "seconds", "flags")


def main(arguments: list[str]) -> int:
    """Print a line for each run, the latest last; with --json one object a line."""
    takes = parser("list", __doc__)
    takes.add_argument(
        "folder", metavar="FOLDER", nargs="?", default="outputs", type=Path, help="where the runs are (outputs)"
    )
    takes.add_argument("--json", action="store_true", dest="as_json", help="one JSON object a line")
    asked = parsed(takes, arguments)
    if asked is None:
        return 0
    folder = expanded(asked.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one that holds your runs, or make a run with spade run")
    runs = [(run, key_figures(read_summary(run))) for run in find_runs(folder)]
    if asked.as_json:
        for run, figures in runs:
            print(json.dumps({"run": str(run), **figures}, ensure_ascii=False))
    elif runs:
        print_table(HEADER, [_row(run, figures) for run, figures in runs], right=NUMBERS)
    else:
        print(f"{folder} holds no run yet")
    return 0


def _row(run: Path, figures: dict[str, Any]) -> tuple[str, ...]:
    changed = "" if figures["same_prediction"] else f" ({figures['trace']['label']})"
    return (
        str(run),
        figures["target"],
        f"{figures['dense']['target_probability']:.1%}",
        f"{figures['trace']['target_probability']:.1%}{changed}",
        f"{figures['agreement']:.0%}",
        f"{figures['sparsity']:.0%}",
        f"{figures['seconds']:.0f}",
        str(len(figures["flags"])),
    )
