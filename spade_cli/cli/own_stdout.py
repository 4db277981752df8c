"""stdout carries a command's answer and nothing else; what a user's network or a library prints goes to stderr."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import IO

STDOUT, STDERR = 1, 2  # descriptors, the same for Python and for code in C
_answers: list[IO[str]] = []  # where answers go; empty outside of `reserve`, where sys.stdout is still its own


def stream() -> IO[str]:
    """The stream that takes the answers."""
    return _answers[-1] if _answers else sys.stdout


def say(text: str) -> None:
    """Write an answer, a line of its own, to stdout."""
    print(text, file=stream(), flush=True)


@contextlib.contextmanager
def reserve() -> Iterator[None]:
    """Inside the `with`, `say` alone writes to stdout; `print` and code in C write to stderr."""
    if _answers:  # already reserved
        yield
        return
    with contextlib.ExitStack() as stack:
        answers = stack.enter_context(_own_descriptor() if _has_descriptors() else contextlib.nullcontext(sys.stdout))
        _answers.append(answers)
        stack.callback(_answers.clear)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        try:
            yield
        except BrokenPipeError:
            _abandon()
            raise


def _abandon() -> None:
    """Nobody reads stdout any more: what is still to be written to it goes nowhere, without a complaint."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (os.devnull is no path of a file)
        os.dup2(nowhere.fileno(), stream().fileno())


def _has_descriptors() -> bool:
    """Whether sys.stdout and stderr are the process's own; a notebook's or a test's are not."""
    try:
        return sys.stdout.fileno() == STDOUT and sys.stderr.fileno() == STDERR
    except (AttributeError, OSError, ValueError):  # there is none, it is a text in memory, it is closed
        return False


@contextlib.contextmanager
def _own_descriptor() -> Iterator[IO[str]]:
    """stdout under another number, while the number that everybody knows is stderr's."""
    usual = sys.stdout
    usual.flush()
    kept = os.dup(STDOUT)
    try:
        os.dup2(STDERR, STDOUT)
        with open(kept, "w", encoding=usual.encoding, errors=usual.errors, closefd=False) as answers:
            yield answers
    finally:
        _flush_what_others_printed(usual)
        os.dup2(kept, STDOUT)
        os.close(kept)


def _flush_what_others_printed(usual: IO[str]) -> None:
    """Text that Python or C still holds back would come out on stdout later."""
    usual.flush()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # a system whose C library is not found like this
        ctypes.CDLL(None).fflush(None)
