"""spade cache: lists the visualizations that are kept for later runs; --clear deletes them."""

import time
from typing import Any

from spade_cli.cache import Cache, Entry
from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.arguments import Command, Setting, read_arguments
from spade_cli.cli.config.check_values import cache_folder
from spade_cli.errors import UserError

NOTES = ("network", "targets", "steps", "size")
HEADER = (*NOTES, "MB", "last use")
NUMBERS = ("steps", "size", "MB")
COMMAND = Command(
    "cache",
    __doc__,
    "spade cache [folder=FOLDER] [--clear]",
    settings=(Setting("folder", "auto", "as interpreter.cache of spade run; auto: the user's own"),),
    flags=(("--clear", "delete all of them; later runs make them again"),),
    examples=("spade cache", "spade cache --clear", "spade cache folder=kept --json"),
)


def main(arguments: list[str]) -> int:
    """Print a line for each entry, the latest used last, or delete them; with --json one object a line."""
    given = read_arguments(COMMAND, arguments)
    if given is None:
        return 0
    folder = cache_folder("folder", given.settings["folder"])
    if folder is None:
        raise UserError("there is no home folder to keep anything in; give folder=FOLDER")
    cache, clear = Cache(folder), "--clear" in given.flags
    try:
        entries = cache.clear() if clear else cache.entries()
    except OSError as error:
        raise UserError(f"folder={folder}: {error}; give a folder that is yours") from error
    if terminal.as_json(given.views):
        terminal.print_objects([_describe(entry) for entry in entries])
    elif clear or not entries:
        done = f"deleted {_count(entries)}" if clear else "holds nothing"
        own_stdout.say(f"{cache.folder}: {done}")
    else:
        terminal.print_table(HEADER, [_row(entry) for entry in entries], given.views, right=NUMBERS)
        terminal.hint(f"{_count(entries)} in {cache.folder}")
    return 0


def _describe(entry: Entry) -> dict[str, Any]:
    """An entry as JSON has it."""
    return {**entry.notes, "file": str(entry.path), "bytes": entry.bytes, "last_use": entry.last_use}


def _row(entry: Entry) -> tuple[str, ...]:
    notes = [entry.notes.get(key, "damaged" if key == "network" else "") for key in NOTES]
    last_use = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_use))
    return (*notes, f"{entry.bytes / 1e6:.1f}", last_use)


def _count(entries: list[Entry]) -> str:
    size = sum(entry.bytes for entry in entries) / 1e6
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'} of {size:.1f} MB"
