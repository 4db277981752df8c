"""A path as people type it, and a name that every file system takes."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """`~` and `~name` as that home folder; as it is where there is no such home, as in a shell."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where there is no home)


def shortened(name: str, most: int) -> str:
    """The start of a name, of at most so many bytes in UTF-8, cut between two characters.

    >>> shortened("crane", 9), shortened("鶴鶴鶴", 7)
    ('crane', '鶴鶴')
    """
    return name.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
