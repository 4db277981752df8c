"""resume=FOLDER: the command that a folder was begun with, given again from where it was given."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from spade_cli.cli.config.quoting import MULTIRUN, arrange
from spade_cli.cli.terminal import VIEWS
from spade_cli.errors import UserError
from spade_cli.files import About


def key(word: str) -> str:
    """The option of a word of the command line.

    >>> key("+batch.size=2")
    'batch.size'
    """
    return word.lstrip("+~").partition("=")[0]


def split_resume(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """What resume= names, "" where it is not there, and the other words. Raises UserError where it names nothing."""
    if "resume=" in arguments:  # not taken for a new start, which may work for hours
        raise UserError("resume= names no folder; give resume=FOLDER, or leave it out to start anew")
    named = next((word.partition("=")[2] for word in arguments if word.startswith("resume=")), "")
    rest = [word for word in arguments if not word.startswith("resume=")]
    return ("" if named == "null" else named), rest


def own_words(arguments: list[str], overrides: Sequence[str]) -> tuple[str, ...]:
    """What a folder is gone on with: one task's own overrides, where -m asked for several, and Hydra's flags."""
    flags = [flag for flag in arrange(arguments)[0] if flag not in (*MULTIRUN, *VIEWS)]
    return (*flags, *overrides)


def go_on(out: str, about: About, again: Callable[[list[str]], int], added: Sequence[str] = ()) -> int:
    """Give a folder's own command again, with `added` words in place of its own; `out` an absolute path or a URL."""
    here, there = Path.cwd(), Path(about.folder)
    if not there.is_dir():
        raise UserError(
            f"resume={out}: its command was given in {there}, which is gone; give that command again with out={out}: "
            f"{about.command}"
        )
    instead = {key(word) for word in added} | {"out"}
    # A choice of another engine takes the settings of the old one with it.
    groups = tuple(f"{name}." for name in instead if "." not in name)
    kept = [word for word in about.arguments if key(word) not in instead and not key(word).startswith(groups)]
    os.chdir(there)
    try:
        return again([*kept, *added, f"out={out}"])
    finally:
        os.chdir(here)
