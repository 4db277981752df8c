"""Files and folders that a kill cannot spoil: written whole, checked before they are written to, compared to resume."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spade_cli.errors import SpadeError, UserError

PART = ".part"  # behind the name of what is not whole yet


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
        beside.unlink(missing_ok=True)
        raise SpadeError(f"cannot write {path}: {error}; give another path or free some space") from error


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
    there, here = _flatten(theirs, ""), _flatten(ours, "")
    other = [key for key in (*here, *there) if here.get(key) != there.get(key)]
    if other:
        key = other[0]
        hint = f" ({resume} resumes that one)" if resume else ""
        raise UserError(
            f"out={out} is of another {what}: {key} is {there.get(key)} there and {here.get(key)} here; "
            f"give the same, or another folder{hint}"
        )


def check_about(content: Any, what: str) -> None:
    """What a folder says of itself, as far as resuming needs it. Raises KeyError, TypeError or ValueError otherwise."""
    words = [content["folder"], content["command"], *content["arguments"]]
    if not isinstance(content["identity"], dict) or not isinstance(content["arguments"], list):
        raise ValueError(f"it is not of {name_one(what)}")
    if not all(isinstance(word, str) for word in words):
        raise ValueError("its command is not a text")


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
