"""A path as people type it."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """`~` and `~name` as that home folder; as it is where there is no such home, as in a shell."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where there is no home)
