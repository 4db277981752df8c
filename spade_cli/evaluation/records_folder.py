"""The folder of an evaluation while it goes on: whose it is, and a file for each finished image, whole or not there."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError
from spade_cli.evaluation.measure_image import Record
from spade_cli.files import PART, check_about, check_folder, compare_settings, write_whole

EVALUATION, RECORDS = "evaluation", "records"  # the first: what it is, and with .json the file that says of which


class Folder:
    """Records by index. A kill at any moment leaves those that were finished, and no half of another."""

    def __init__(self, path: Path, made: bool, part: str = PART) -> None:
        self.path, self.part = path, part  # part: the end of a name that is being written
        self.made = made  # by this run: it may be taken away again

    def record(self, index: int) -> Record | None:
        """An image's record, if it is finished. Raises UserError where the file cannot be read."""
        file = self._file(index)
        if not file.is_file():
            return None
        try:
            return as_record(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} cannot be read ({error}); delete it, and its image is measured anew") from None

    def keep(self, record: Record) -> None:
        """Write an image's record."""
        text = json.dumps(vars(record), ensure_ascii=False, allow_nan=False)
        write_whole(self._file(record.index), lambda path: path.write_text(text + "\n", encoding="utf-8"), self.part)

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(self.path / name, lambda path: path.write_text(text + "\n", encoding="utf-8"), self.part)

    def forget(self) -> None:
        """After a mistake that every image repeats: nothing is left of a folder that this run made."""
        if self.made and not any((self.path / RECORDS).glob("*.json")):
            shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, index: int) -> Path:
        return self.path / RECORDS / f"{index:06d}.json"


def as_record(content: Mapping[str, Any]) -> Record:
    """A record from its JSON. Raises KeyError or TypeError for anything else."""
    tuples = {key: [tuple(entry) for entry in content[key]] for key in ("rows", "curves", "failures")}
    return Record(**{**content, **tuples})


def open_folder(
    out: Path, identity: Mapping[str, Any], about: Mapping[str, Any], what: str = EVALUATION, part: str = PART
) -> Folder:
    """A new folder, or the one of the same evaluation (or other `what`), to go on with.

    `identity` is all that the numbers depend on, `about` is noted beside it. Raises UserError where `out` holds
    something else, another evaluation's images among it.
    """
    check_out(out, what)
    made = not out.exists()
    if (out / f"{what}.json").is_file():
        resume = f"spade eval resume={out}" if what == EVALUATION else ""
        ours = json.loads(json.dumps(identity))
        compare_settings(str(out), read_about(out, what)["identity"], ours, what, resume)
        return Folder(out, False, part)
    folder = Folder(out, made, part)
    folder.write(f"{what}.json", {**about, "identity": identity})
    return folder


def check_out(out: Path, what: str = EVALUATION) -> None:
    """Only a new or empty folder, or one of an evaluation (or other `what`), is written to."""
    check_folder(out, (f"{what}.json",), what)


def read_about(out: Path, what: str = EVALUATION) -> dict[str, Any]:
    """What an evaluation's folder says of it. Raises UserError where there is no such folder."""
    file = f"{what}.json"
    try:
        content = json.loads((out / file).read_text(encoding="utf-8"))
        check_about(content, what)
        return dict(content)
    except FileNotFoundError:
        raise UserError(f"{out} holds no {what} ({file} is not there); give the folder of one") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{out}: its {file} cannot be read ({error}); give another folder") from None
