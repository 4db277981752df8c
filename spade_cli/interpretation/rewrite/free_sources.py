"""Frees the source code that torch.fx caches."""

import linecache
from collections.abc import Iterator
from contextlib import contextmanager

from torch.fx import graph_module

# torch.fx keeps the source of every graph it compiles until the process ends, for tracebacks alone: a network explained
# in a batch of a million images would leave gigabytes. Private, so absent it is nothing.
KEPT: dict[str, str] = getattr(getattr(graph_module, "_loader", None), "eval_cache", {})


@contextmanager
def sources_forgotten() -> Iterator[None]:
    """Sources compiled inside are let go of at the end; the compiled graphs work on, without lines in tracebacks."""
    before = set(KEPT)
    try:
        yield
    finally:
        for name in KEPT.keys() - before:
            KEPT.pop(name, None)  # another thread may have been there
            linecache.cache.pop(name, None)
