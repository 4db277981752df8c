"""What is wrong with the command's answer to an input: it is given in a folder of its own, with a home of its own."""

import contextlib
import io
import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzzing import Input

from spade_cli.cli import main

PATIENCE = 120  # seconds that one input may take on a busy machine; none of them needs ten
OLDER_WAY = "is an older way"  # the end of a hint, which is no error


@dataclass(frozen=True)
class Outcome:
    """What became of an input."""

    code: object  # the exit code; the name of an exception that came through
    problem: str  # what is wrong with the answer; "" for nothing


def give(given: Input, home: Path, folder: Path) -> Outcome:
    """Give the command line in `folder`, a copy of `home` that is thrown away afterwards."""
    shutil.copytree(home, folder)
    try:
        return _give_here(given, folder)
    finally:
        shutil.rmtree(folder)


def _give_here(given: Input, folder: Path) -> Outcome:
    for name, content in given.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    before = set(folder.rglob("*"))
    with contextlib.chdir(folder), _home(folder), _patience():
        code, out, err = answer(list(given.arguments))
    made = sorted(str(path.relative_to(folder)) for path in set(folder.rglob("*")) - before)
    return Outcome(code, judge(given, code, out, err, made))


def answer(arguments: list[str]) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of one command line, warnings included as Python shows them."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.resetwarnings()
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)  # as Python does for programs
        warnings.showwarning = lambda text, kind, *place, **_: print(f"{kind.__name__}: {text}", file=err)
        try:
            code: object = main(arguments)
        except BaseException as error:
            import traceback

            traceback.print_exc(file=err)
            code = f"{type(error).__name__}"
    return code, out.getvalue(), err.getvalue()


def judge(given: Input, code: object, out: str, err: str, made: list[str]) -> str:
    lines = err.splitlines()
    lines = [line for line in lines if not line.endswith(OLDER_WAY)]
    told = [line for line in lines if line.startswith("spade: ")]
    shown = f"exit code {code}, stderr:\n{err[-3000:]}"
    if code not in (0, 1, 2):
        return f"the exit code is not 0, 1 or 2; {shown}"
    if "Traceback" in err or "Warning" in err:
        return f"a traceback or a warning; {shown}"
    if code == 0 and told and given.arguments[0] != "open":
        return f"an error and exit code 0; {shown}"
    if code in (1, 2) and (len(told) != 1 or lines[-1] != told[0]):
        return f"not one line that ends what is said; {shown}"
    if code == 2 and out:
        return f"a mistake, and {out[:200]!r} on stdout; {shown}"
    left = [name for name in made if ".part" in name]
    if left or (code == 2 and made):
        return f"left behind: {left or made}; {shown}"
    return ""


@contextlib.contextmanager
def _home(folder: Path) -> Iterator[None]:
    """`~` means the folder: no input is to read or write whoever's home."""
    before = {name: os.environ.get(name) for name in ("HOME", "USERPROFILE")}
    os.environ.update(dict.fromkeys(before, str(folder)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """An input that hangs is a problem, too: it is broken off, and leaves a traceback."""
    if not hasattr(signal, "SIGALRM"):  # Windows
        yield
        return

    def broken_off(*_: object) -> None:
        raise TimeoutError(f"no answer in {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, broken_off)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
