"""SIGTERM, as `kill`, Slurm and containers send it: a command ends through its `finally`, and leaves nothing hidden."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

TERMINATED = 143  # what shells report for a program ended by SIGTERM (128 + 15)


@contextlib.contextmanager
def end_orderly() -> Iterator[None]:
    """Within the block SIGTERM raises SystemExit(TERMINATED), unless something else listens to it already."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one does not disturb the end
    raise SystemExit(TERMINATED)
