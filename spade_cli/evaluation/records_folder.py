"""An image's record, and the folder of records: a file for each finished image, whole or not there."""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from spade_cli.errors import SpadeError, UserError
from spade_cli.files import PART, About, check_folder, compare_settings, read_about, write_whole

EVALUATION, RECORDS = "evaluation", "records"  # the first: what it is, and with .json the file that says of which


class Value(NamedTuple):
    """One number; method "": of the network, not of a map."""

    condition: str
    method: str
    metric: str
    value: float


class Curve(NamedTuple):
    """An insertion or deletion curve."""

    condition: str
    method: str
    kind: str
    points: list[float]


class Failure(NamedTuple):
    """What could not be measured, and why; condition "": the image, method "": the network."""

    condition: str
    method: str
    why: str


@dataclass
class Record:
    """What one image adds to the results; filled while the image is measured."""

    index: int
    image: str
    target: int | None = None
    rows: list[Value] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, condition: str, method: str, values: Mapping[str, float]) -> None:
        """Note measures of one condition, and of one method where they are of a map."""
        for metric, value in values.items():
            if math.isfinite(value):
                self.rows.append(Value(condition, method, metric, float(value)))
            else:
                self.failures.append(Failure(condition, method, f"{metric} is not finite"))

    def fail(self, condition: str, method: str, error: SpadeError) -> None:
        """Note what could not be measured, and why."""
        self.failures.append(Failure(condition, method, " ".join(str(error).split())))

    def to_json(self) -> dict[str, Any]:
        """Every field by its name; measures, curves and failures as lists."""
        return vars(self).copy()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Record":
        """The other way round. Raises KeyError or TypeError for anything else."""
        return cls(
            **{
                **content,
                "rows": [Value(*entry) for entry in content["rows"]],
                "curves": [Curve(*entry) for entry in content["curves"]],
                "failures": [Failure(*entry) for entry in content["failures"]],
            }
        )


class RecordsFolder:
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
            return Record.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} cannot be read ({error}); delete it, and its image is measured anew") from None

    def keep(self, record: Record) -> None:
        """Write an image's record."""
        text = json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False)
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


def open_folder(
    out: Path, identity: Mapping[str, Any], about: Mapping[str, Any], what: str = EVALUATION, part: str = PART
) -> RecordsFolder:
    """A new folder, or the one of the same evaluation (or other `what`) to resume.

    `identity` is all that the numbers depend on, `about` is noted beside it. Raises UserError where `out` holds
    something else, another evaluation's images among it.
    """
    check_out(out, what)
    made = not out.exists()
    if (out / f"{what}.json").is_file():
        resume = f"spade eval resume={out}" if what == EVALUATION else ""
        compare_settings(str(out), about_folder(out, what).identity, identity, what, resume)
        return RecordsFolder(out, False, part)
    folder = RecordsFolder(out, made, part)
    folder.write(f"{what}.json", {**about, "identity": identity})
    return folder


def check_out(out: Path, what: str = EVALUATION) -> None:
    """Only a new or empty folder, or one of an evaluation (or other `what`), is written to."""
    check_folder(out, (f"{what}.json",), what)


def about_folder(out: Path, what: str = EVALUATION) -> About:
    """What an evaluation's folder says of it. Raises UserError where there is no such folder."""
    return read_about(About, lambda name: (out / name).read_bytes(), str(out), what)
