"""spade export: turn a run's compact trace into a plain state dict, .pth or .safetensors."""

import os
from pathlib import Path

from spade_cli.cli import terminal
from spade_cli.cli.arguments import Arguments, Command, Setting, read_arguments, read_path
from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.report.runs import find_run

SUFFIXES = (".pth", ".pt", ".safetensors")
TRACE = "trace.safetensors"
RUNS = Path("outputs")  # where a run is looked for by a part of its name
COMMAND = Command(
    "export",
    __doc__,
    "spade export [RUN] out=FILE",
    words=(
        ("RUN", "folder of a run, or a part of its name; default: the latest run"),
        ("FILE", ""),  # an older way to write out=FILE
    ),
    settings=(Setting("out", "", "file to write: its suffix (.pth, .pt, .safetensors) is the format", read_path),),
    flags=(("--force", "replace the file where it exists"),),
    examples=("spade export out=trace.pth", "spade export cat out=trace.safetensors --force"),
)


def main(arguments: list[str]) -> int:
    """Check the arguments and export."""
    given = read_arguments(COMMAND, arguments)
    if given is None:
        return 0
    out = _out(given)
    _check_out(out, "--force" in given.flags)
    run = find_run(given.word(0), RUNS)
    if not (run / TRACE).is_file():
        raise UserError(f"{run} holds no {TRACE}: the run did not keep its trace; make it again with keep=[trace]")
    from spade_cli.report.checkpoint import export  # torch comes with it

    export(run, out)
    terminal.print_result("file", out, given.views)
    return 0


def _out(given: Arguments) -> Path:
    """The file to write: `out`, or what older command lines had as their second word."""
    if len(given.words) == 2 and "out" not in given.settings:
        terminal.hint(f"write out={given.words[1]}; a bare file is an older way")
        return expand_path(given.words.pop())
    if len(given.words) == 2:
        raise UserError(f"spade export takes one RUN, and found {given.words[0]!r} and {given.words[1]!r}; name one")
    if "out" not in given.settings:
        raise UserError("out is not given; add out=FILE, such as out=trace.pth")
    out: Path = given.settings["out"]
    return out


def _check_out(out: Path, force: bool) -> None:
    if out.suffix not in SUFFIXES:
        found = f"the suffix {out.suffix}" if out.suffix else "no suffix"
        raise UserError(f"out={out} has {found}: give a name that ends in {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise UserError(f"out={out} is a folder: give the name of a file to write")
    if out.exists() and not force:
        raise UserError(f"out={out} exists already: give another name, or --force to replace it")
    folder = out.parent
    if not folder.is_dir():
        raise UserError(f"out={out}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise UserError(f"out={out}: the folder {folder} cannot be written to; choose another")
