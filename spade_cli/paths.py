"""A path as people type it, and a name that every file system takes."""

import os
from pathlib import Path

from spade_cli.errors import UserError

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on every file system in use
SHOWN = 60  # characters of a path that is too long


def expanded(path: str | Path) -> Path:
    """`~` and `~name` as that home folder; as it is where there is no such home, as in a shell.

    Raises UserError for a path that no file can have: with a name that is too long, or with a null character.
    """
    found = Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises where there is no home)
    if "\0" in str(found):
        raise UserError(f"{str(found)!r:.{SHOWN}} cannot be read or written: it holds a null character; check the path")
    lengths = [len(os.fsencode(part)) for part in found.parts]
    if max(lengths, default=0) > LONGEST_NAME or sum(lengths) + len(lengths) > LONGEST_PATH:
        raise UserError(
            f"{str(found)[:SHOWN]}... cannot be read or written: it is longer than the path of any file; check the path"
        )
    return found


def shortened(name: str, most: int) -> str:
    """The start of a name, of at most so many bytes in UTF-8, cut between two characters.

    >>> shortened("crane", 9), shortened("鶴鶴鶴", 7)
    ('crane', '鶴鶴')
    """
    return name.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
