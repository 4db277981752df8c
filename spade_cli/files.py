"""Paths and folders: names that every file system takes, files that are written whole, folders that can be resumed."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from spade_cli.errors import SpadeError, UserError, advise_on_room
from spade_cli.records import read_record

LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on every file system in use
SHOWN = 60  # characters of a path that is too long
PART = ".part"  # ends the name of a file that is not written to its end yet
# Settings, by group, that say where something is kept, and how much of it.
STORAGE = {"calibration": ("save", "memory"), "interpreter": ("cache", "cache_limit")}


def expand_path(path: str | Path) -> Path:
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


def shorten_name(name: str, most: int) -> str:
    """The start of a name, of at most so many bytes in UTF-8, cut between two characters.

    >>> shorten_name("crane", 9), shorten_name("鶴鶴鶴", 7)
    ('crane', '鶴鶴')
    """
    return name.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def write_whole(path: Path, write: Callable[[Path], object], part: str = PART) -> None:
    """Write a file beside `path` under one fixed name and rename it: a kill leaves the old file and no litter.

    `part`: what that name ends in; processes that write the same file need one each. Raises SpadeError where it fails.
    """
    from safetensors import SafetensorError

    beside = path.with_name(path.name + part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        beside.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # RuntimeError: torch's word for a full disk
        with suppress(OSError):  # where its folder cannot be made, there is nothing to delete
            beside.unlink(missing_ok=True)
        advice = advise_on_room(error) or "free some space"
        raise SpadeError(f"cannot write {path}: {error}; give another path or {advice}") from error


def check_folder(out: Path, marks: Sequence[str], what: str, ours: Sequence[str] = ()) -> None:
    """Only a new or empty folder, or one that holds a mark of ours, is written to: it may hold work of the user's own.

    marks: files of which one shows that the folder is of a `what`. ours: names that do not count as anybody's work.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out} is a file; give a folder")
    if not out.exists() or any((out / mark).is_file() for mark in marks):
        return
    if [path for path in out.iterdir() if path.suffix != PART and path.name not in ours]:
        raise UserError(f"out={out} holds other files; give a new folder, or the one of {name_one(what)} to resume")


def compare_settings(out: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], what: str, resume: str = "") -> None:
    """Refuse to resume what was begun with other settings: UserError names the first that differs.

    resume: the command that resumes the folder as it was begun; "" where the same command does.
    """
    there, here = _flatten(theirs, ""), _flatten(json.loads(json.dumps(ours)), "")
    other = [key for key in (*here, *there) if here.get(key) != there.get(key)]
    if other:
        key = other[0]
        hint = f" ({resume} resumes that one)" if resume else ""
        raise UserError(
            f"out={out} is of another {what}: {key} is {there.get(key)} there and {here.get(key)} here; "
            f"give the same, or another folder{hint}"
        )


def leave_out_storage(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A command's settings without those that say where something is kept: no result depends on them.

    >>> leave_out_storage({"seed": 0, "interpreter": {"steps": 512, "cache": "kept"}})
    {'seed': 0, 'interpreter': {'steps': 512}}
    """
    return {
        group: {key: one for key, one in value.items() if key not in STORAGE[group]}
        if group in STORAGE and isinstance(value, Mapping)
        else value
        for group, value in settings.items()
    }


@dataclass(frozen=True)
class About:
    """What a folder says of itself in its JSON file, as far as resuming needs it."""

    folder: str  # where the command was given
    command: str
    arguments: tuple[str, ...]  # the same as words, to resume with
    identity: Mapping[str, Any]  # all that the results depend on


AboutKind = TypeVar("AboutKind", bound=About)


def read_about(kind: type[AboutKind], read: Callable[[str], bytes], out: str, what: str) -> AboutKind:
    """What a folder `out` of a `what` says of itself. Raises UserError where it is no such folder.

    read: the bytes of one of its files, by name.
    """
    file = f"{what}.json"
    try:
        return read_record(kind, json.loads(read(file).decode("utf-8")))
    except FileNotFoundError:
        raise UserError(f"{out} holds no {what} ({file} is not there); give the folder of one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{out}: its {file} cannot be read ({error}); give another folder") from None


def name_one(what: str) -> str:
    """A thing with its article.

    >>> name_one("evaluation")
    'an evaluation'
    """
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _flatten(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, dict) and value
        found |= _flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found
