"""The command `spade`: verbs, their help, and every bad end as one line and an exit code.

A verb is a module of this package with a first line that says what it does, and `main(arguments) -> exit code`.
"""

import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.typed_words import PICTURE, rewrite_words
from spade_cli.cli.termination import end_orderly
from spade_cli.cli.threads import limit_threads, wait_politely
from spade_cli.errors import SpadeError, UserError
from spade_cli.version import __version__

VERBS = (
    *("run", "batch", "sweep", "open", "list", "neurons", "diff"),
    *("layers", "doctor", "export", "cache", "demo", "world", "toy", "implant", "eval", "tune", "completion"),
)
COMPLETE = "__complete"  # what the functions of a shell call at TAB
INTERRUPTED = 130  # what shells report for a program ended by Ctrl-C (128 + SIGINT)
PIPE_CLOSED = 141  # and for one whose reader went away (128 + SIGPIPE)
START = """\
spade: why did this vision network say that, about this image?

Start here:
  spade demo                              explains a bundled picture with a bundled network, in less than a minute
  spade open                              shows the report of the latest run in the browser
  spade run image=cat.jpg                 explains a picture of yours; ResNet50's weights are downloaded once
  spade run image=cat.jpg model=resnet18  asks another network; model=timm, huggingface and python take names, too
  spade batch images=photographs          explains every picture of a folder

  spade --help                            all commands
  spade COMMAND --help                    every setting of a command
  spade completion bash                   lets TAB complete commands, settings and files; also zsh and fish"""

SYNONYMS = {  # what other programs call it
    **dict.fromkeys(("explain", "start", "go", "trace", "image"), "run"),
    **dict.fromkeys(("show", "view", "report", "browse"), "open"),
    **dict.fromkeys(("ls", "runs", "history"), "list"),
    **dict.fromkeys(("compare", "delta"), "diff"),
    **dict.fromkeys(("evaluate", "benchmark", "measure"), "eval"),
    **dict.fromkeys(("images", "many", "explain-all"), "batch"),
    **dict.fromkeys(("channels", "units"), "neurons"),
    **dict.fromkeys(("check", "test", "try"), "doctor"),
    **dict.fromkeys(("save", "convert"), "export"),
    **dict.fromkeys(("example", "hello"), "demo"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == [COMPLETE]:  # what is typed so far may be no command line yet
        return load_verb("completion").answer(arguments[1:])
    wait_politely()
    try:
        with end_orderly(), own_stdout.reserve(), limit_threads(arguments) as words:
            terminal.forget_hints()
            code = _dispatch(words)
        if code == 0:
            terminal.tell_hints(arguments)
        return code
    except SpadeError as error:
        print(f"spade: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("spade: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except Exception:  # a fault of the program's or of the user's own code keeps its traceback
        print("spade: failed", file=sys.stderr)
        traceback.print_exc()
        return 1


def _dispatch(argv: list[str]) -> int:
    if not argv:
        own_stdout.say(START)
        return 0
    first, *rest = argv
    if first == "help" and rest and rest[0] in VERBS:
        first, rest = rest[0], ["--help"]
    if first in ("-h", "--help", "help"):
        own_stdout.say(_help())
        return 0
    if first == "version" or "--version" in argv:
        own_stdout.say(f"spade {__version__}")
        return 0
    if first in VERBS:
        return load_verb(first).main(rewrite_words(first, rest))
    raise UserError(f"{first!r} is not a command of spade; {_guess_command(first, rest)}")


def _guess_command(first: str, rest: Sequence[str]) -> str:
    """What a command line without a known command may have been meant as."""
    if "=" in first:
        return f"did you mean spade run {_quote_word(first)}?"
    if PICTURE.fullmatch(first):
        return f"did you mean spade run {_quote_word(f'image={first}')}?"
    near = [SYNONYMS[first.lower()]] if first.lower() in SYNONYMS else get_close_matches(first.lower(), VERBS, n=1)
    if rest and PICTURE.fullmatch(rest[-1]) and near in ([], ["run"]):
        if "=" in rest[-1]:  # a misspelt verb
            return f"did you mean spade run {' '.join(map(_quote_word, rest))}?"
        path = " ".join([first, *rest] if not near else rest)  # a path with blanks, which the shell took apart
        return f"did you mean spade run {_quote_word(f'image={path}')}?"
    return f"did you mean spade {near[0]}?" if near else f"there are {', '.join(VERBS)}; see spade --help"


def _quote_word(word: str) -> str:
    """A word as it is typed in a shell; an = needs no quotes."""
    return word if re.fullmatch(r"[\w./=:,+-]+", word) else shlex.quote(word)


def load_verb(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"spade_cli.cli.{name}")


def _help() -> str:
    verbs = "\n".join(f"  {name:<10} {summarize_verb(name)}" for name in VERBS)
    return f"""\
spade: why did this vision network say that, about this image?

usage: spade COMMAND [WORD ...] [KEY=VALUE ...] [--FLAG ...]

{verbs}

  spade COMMAND --help   what a command does and takes
  spade --version        the version

Settings are KEY=VALUE, in any order; a list is KEY=[a,b]. What begins with - is a flag and takes no value, but for
--config-dir DIR and --cfg job. out= is where a command writes; list, open and neurons look for runs there.
Every command takes threads=N, --quiet, --plain and --json. Its answer goes to stdout, all else to stderr.

example: spade run image=cat.jpg model=resnet18"""


def summarize_verb(name: str) -> str:
    """What a command does, in a line."""
    return (load_verb(name).__doc__ or "").splitlines()[0].split(": ", 1)[1]
