"""The folder of an evaluation while it goes on: whose it is, and a file for each finished image, whole or not there."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError
from spade_cli.evaluation.measuring import Record
from spade_cli.world.resuming import PART, write_whole

ABOUT, RECORDS = "evaluation.json", "records"


class Folder:
    """Records by index. A kill at any moment leaves those that were finished, and no half of another."""

    def __init__(self, path: Path, made: bool) -> None:
        self.path = path
        self.made = made  # by this run: it may be taken away again

    def record(self, index: int) -> Record | None:
        """An image's record, if it is finished. Raises UserError where the file cannot be read."""
        file = self._file(index)
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            for key in ("rows", "curves", "failures"):
                content[key] = [tuple(entry) for entry in content[key]]
            return Record(**content)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} cannot be read ({error}); delete it, and its image is measured anew") from None

    def keep(self, record: Record) -> None:
        """Write an image's record."""
        text = json.dumps(vars(record), ensure_ascii=False, allow_nan=False)
        write_whole(self._file(record.index), lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(self.path / name, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def forget(self) -> None:
        """After a mistake that every image repeats: nothing is left of a folder that this run made."""
        if self.made and not any((self.path / RECORDS).glob("*.json")):
            shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, index: int) -> Path:
        return self.path / RECORDS / f"{index:06d}.json"


def open_folder(out: Path, identity: Mapping[str, Any], about: Mapping[str, Any]) -> Folder:
    """A new folder, or the one of the same evaluation, to go on with.

    `identity` is all that the numbers depend on, `about` is noted beside it. Raises UserError where `out` holds
    something else, another evaluation's images among it.
    """
    check_folder(out)
    made = not out.exists()
    file = out / ABOUT
    if file.is_file():
        compare(str(out), read_about(out)["identity"], json.loads(json.dumps(identity)), "evaluation", "eval")
        return Folder(out, made=False)
    folder = Folder(out, made)
    folder.write(ABOUT, {**about, "identity": identity})
    return folder


def check_folder(out: Path) -> None:
    """Only a new or empty folder, or one of an evaluation, is written to."""
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out} is a file; give a folder")
    if not out.exists() or (out / ABOUT).is_file():
        return
    if [path for path in out.iterdir() if path.suffix != PART]:
        raise UserError(f"out={out} holds other files; give a new folder, or the one of an evaluation to go on with")


def read_about(out: Path) -> dict[str, Any]:
    """What an evaluation's folder says of it. Raises UserError where there is no such folder."""
    try:
        content = json.loads((out / ABOUT).read_text(encoding="utf-8"))
        if not isinstance(content["identity"], dict) or not isinstance(content["arguments"], list):
            raise ValueError("it is not of an evaluation")
        return content
    except FileNotFoundError:
        raise UserError(f"{out} holds no evaluation ({ABOUT} is not there); give the folder of one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out}: its {ABOUT} cannot be read ({error}); give another folder") from None


def compare(out: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], what: str, verb: str) -> None:
    """Refuse to go on with what was begun with other settings: UserError names the first that differs."""
    there, here = _flat(theirs, ""), _flat(ours, "")
    other = [key for key in (*here, *there) if here.get(key) != there.get(key)]
    if other:
        key = other[0]
        raise UserError(
            f"out={out} is of another {what}: {key} is {there.get(key)} there and {here.get(key)} here; "
            f"give the same, or another folder (spade {verb} resume={out} goes on with that one)"
        )


def _flat(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found
