"""`threads=N`, which every command takes, and threads that give their core to other programs while they wait."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from spade_cli.cli.config.check_values import whole

KEY = "threads="
# torch computes with OpenMP, and its matrix products with MKL or OpenBLAS.
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# GNU's OpenMP lets a thread without work spin for minutes before it sleeps. Where another program needs the core, both
# then take many times as long. So many turns cost a run alone about 3 %, with visualizations a tenth (one run each),
# and make one beside a busy core take 1.7 times as long instead of 2.4 (docs/benchmarks.md).
SPIN, TURNS = "GOMP_SPINCOUNT", "4000"
WAITING = (SPIN, "OMP_WAIT_POLICY")  # what a user may have chosen himself
MOST = 4096  # more is a slip


def wait_politely() -> None:
    """Limit how long idle threads spin. OpenMP reads this once, when torch is loaded; the user's own choice stays."""
    if not any(name in os.environ for name in WAITING):
        os.environ[SPIN] = TURNS


@contextmanager
def limit_threads(words: Sequence[str]) -> Iterator[list[str]]:
    """The words of a command line without `threads=N`, which holds until the end of the block.

    Raises UserError for a number that makes no sense. The last of several counts.
    """
    rest = [word for word in words if not word.startswith(KEY)]
    given = [word.removeprefix(KEY) for word in words if word.startswith(KEY)]
    if not given:
        yield rest
        return
    count = whole("threads", int(given[-1]) if given[-1].isdecimal() else given[-1], 1, MOST)
    old = {name: os.environ.get(name) for name in COUNTS}
    torch = sys.modules.get("torch")  # not loaded for this: it takes seconds, and reads the environment when it is
    threads = torch.get_num_threads() if torch else 0
    os.environ.update(dict.fromkeys(COUNTS, str(count)))
    if torch:
        torch.set_num_threads(count)
    try:
        yield rest
    finally:
        for name, value in old.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        if torch:
            torch.set_num_threads(threads)
