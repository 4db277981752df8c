"""spade export: turn a run's compact trace into a plain state dict, .pth or .safetensors."""

import os
from pathlib import Path

from spade_cli.cli.plain import parsed, parser
from spade_cli.errors import UserError
from spade_cli.paths import expanded

SUFFIXES = (".pth", ".pt", ".safetensors")
TRACE = "trace.safetensors"


def main(arguments: list[str]) -> int:
    """Check the arguments and export."""
    takes = parser("export", __doc__)
    takes.add_argument("run", metavar="RUN", type=Path, help="folder of a run, such as outputs/2026-01-31/12-00-00-cat")
    takes.add_argument(
        "out", metavar="OUT", type=Path, help="file to write: its suffix (.pth, .safetensors) is the format"
    )
    takes.add_argument("--force", action="store_true", help="replace OUT where it exists")
    asked = parsed(takes, arguments)
    if asked is None:
        return 0
    run, out = expanded(asked.run), expanded(asked.out)
    _check_run(run)
    _check_out(out, asked.force)
    from spade_cli.report import export  # torch comes with it

    export(run, out)
    print(out)
    return 0


def _check_run(run: Path) -> None:
    if not run.exists():
        raise UserError(f"{run}: no such run; give the folder that spade run printed")
    if not run.is_dir():
        raise UserError(f"{run} is a file: give the folder of a run, which holds {TRACE}")
    if not (run / TRACE).is_file():
        raise UserError(f"{run} holds no {TRACE}: give the folder of a finished run that kept its trace (keep=[trace])")


def _check_out(out: Path, force: bool) -> None:
    if out.suffix not in SUFFIXES:
        found = f"the suffix {out.suffix}" if out.suffix else "no suffix"
        raise UserError(f"{out} has {found}: give a name that ends in {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise UserError(f"{out} is a folder: give the name of a file to write")
    if out.exists() and not force:
        raise UserError(f"{out} exists already: give another name, or --force to replace it")
    folder = out.parent
    if not folder.is_dir():
        raise UserError(f"{out}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise UserError(f"{out}: the folder {folder} cannot be written to; choose another")
