"""The command `spade`: verbs, their help, and every bad end as one line and an exit code.

A verb is a module of this package with a first line that says what it does, and `main(arguments) -> exit code`.
"""

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from spade_cli import __version__
from spade_cli.errors import SpadeError, UserError

VERBS = (
    *("run", "batch", "sweep", "open", "list", "neurons", "diff"),
    *("layers", "doctor", "export", "demo", "world", "toy", "implant", "eval", "tune"),
)
INTERRUPTED = 130  # what shells report for a program ended by Ctrl-C (128 + SIGINT)
PIPE_CLOSED = 141  # and for one whose reader went away (128 + SIGPIPE)


def main(argv: list[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except SpadeError as error:
        print(f"spade: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("spade: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain about the closed pipe then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _dispatch(argv: list[str]) -> int:
    first, *rest = argv or ["--help"]
    if first in ("-h", "--help", "help"):
        print(_help())
        return 0
    if "--version" in argv:
        print(f"spade {__version__}")
        return 0
    if first in VERBS:
        return _verb(first).main(rest)
    near = get_close_matches(first, VERBS, n=1, cutoff=0.4)
    if "=" in first:
        hint = f"did you mean spade run {first}?"
    elif near:
        hint = f"did you mean spade {near[0]}?"
    else:
        hint = f"there are {', '.join(VERBS)}; see spade --help"
    raise UserError(f"{first!r} is no command of spade; {hint}")


def _verb(name: str) -> ModuleType:
    return import_module(f"spade_cli.cli.{name}")


def _help() -> str:
    verbs = "\n".join(f"  {name:<10} {_summary(name)}" for name in VERBS)
    return f"""\
spade: why did this vision network say that, about this image?

usage: spade COMMAND ...

{verbs}

  spade COMMAND --help   what a command does and takes
  spade --version        the version

example: spade run image=cat.jpg model=resnet18"""


def _summary(name: str) -> str:
    return (_verb(name).__doc__ or "").splitlines()[0].split(": ", 1)[1]
