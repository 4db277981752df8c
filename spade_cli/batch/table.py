"""The table of a batch: a row for each result, in index.jsonl and a CSV file, appended as results come.

After a kill the files are mended: half a line goes. At the end the lines are in the images' order. What is kept in
memory is where each line begins, eight bytes a result.
"""

import contextlib
import csv
import io
import json
import traceback
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from spade_cli.errors import SpadeError, UserError, advise_on_room
from spade_cli.records import read_record
from spade_cli.report.summary import Predictions, Summary

JSONL = "index.jsonl"
ABSENT = -1
DONE, FAILED = "done", "failed"
COLUMNS = (
    *("number", "image", "folder", "status", "reason", "target"),
    *("dense_label", "dense_probability", "trace_label", "trace_probability"),
    *("same_prediction", "agreement", "kl", "sparsity", "flags", "seconds"),
)
JobSettings = Mapping[str, Any]  # of a job of a sweep: "pruner.sparsity": 0.8
Quality = Mapping[str, Mapping[str, float]]  # method -> network -> ROC AUC of the map against the mask


@dataclass(frozen=True)
class Item:
    """What a row is about: an image of the batch's list, and in a sweep one of its jobs."""

    number: int
    image: str
    job: int | None = None
    settings: JobSettings = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What one result's summary.json says, in the figures that people sort and filter by."""

    target: str
    prediction: Predictions
    same_prediction: bool
    agreement: float
    kl: float
    sparsity: float
    flags: tuple[str, ...]
    seconds: float

    @classmethod
    def from_summary(cls, summary: Summary) -> "Result":
        """The figures of one summary."""
        fidelity = summary.fidelity
        return cls(
            target=summary.target.words,
            prediction=summary.prediction,
            same_prediction=fidelity.same_prediction,
            agreement=fidelity.agreement,
            kl=fidelity.kl,
            sparsity=summary.sparsity.achieved,
            flags=summary.flags,
            seconds=summary.seconds["total"],
        )


@dataclass(frozen=True)
class Row:
    """One result, or the reason why there is none."""

    item: Item
    folder: str = ""  # of the result, below the batch's
    reason: str = ""
    result: Result | None = None  # None: it failed
    traceback: str | None = None  # where the program failed, not the image
    quality: Quality | None = None  # None: where the evidence lies is not known

    @classmethod
    def of_failure(cls, item: Item, error: BaseException | str) -> "Row":
        """The row of an image that could not be explained; a fault of the program's with its traceback."""
        if isinstance(error, str | SpadeError):
            reason = " ".join(str(error).split())
            # The image has a column of its own.
            return cls(item, reason=reason.removeprefix(f"image={item.image}").lstrip(": "))
        trace = "".join(traceback.format_exception(error))
        return cls(item, reason=" ".join(f"{type(error).__name__}: {error}".split()), traceback=trace)

    @property
    def status(self) -> str:
        """done or failed."""
        return FAILED if self.result is None else DONE

    def to_json(self) -> dict[str, Any]:
        """As a line of index.jsonl has it (docs/scale.md)."""
        item, job = self.item, {"job": self.item.job, "options": self.item.settings}
        return {
            "number": item.number,
            "image": item.image,
            **(job if item.job is not None else {}),
            "folder": self.folder,
            "status": self.status,
            "reason": self.reason,
            **(asdict(self.result) if self.result else {}),
            **({"traceback": self.traceback} if self.traceback is not None else {}),
            **({"quality": self.quality} if self.quality is not None else {}),
        }

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "Row":
        """The other way round. Raises KeyError, TypeError or ValueError for any other line."""
        if line["status"] not in (DONE, FAILED):
            raise ValueError(f"its status is {line['status']!r}")
        result = read_record(Result, line) if line["status"] == DONE else None
        own = (line["folder"], line["reason"], result, line.get("traceback"), line.get("quality"))
        return cls(read_record(Item, {**line, "settings": line.get("options", {})}), *own)


def name_columns(varied: Sequence[str]) -> list[str]:
    """The CSV file's columns: a sweep has one for each setting that it varies, behind the image."""
    return [*COLUMNS[:2], *varied, *COLUMNS[2:]]


def format_csv(line: Mapping[str, Any], varied: Sequence[str]) -> str:
    """A line of index.jsonl as one of the CSV file, its end included; `varied`: the settings that a sweep varies."""
    cells = {**line, **line.get("options", {})}
    for network, answer in line.get("prediction", {}).items():
        cells |= {f"{network}_{key}": value for key, value in answer.items()}
    cells["flags"] = "; ".join(line.get("flags", []))
    return _csv_line([cells.get(column) for column in name_columns(varied)])


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


class Table:
    """Rows by image and job, each once."""

    def __init__(self, folder: Path, name: str, images: int, varied: Sequence[str] = (), jobs: int = 1) -> None:
        self.jsonl, self.csv = folder / JSONL, folder / name
        self.varied, self.jobs = varied, jobs
        self.starts = array("q", [ABSENT]) * (images * jobs)
        self._failed = bytearray(images * jobs)
        self._is_sorted = False

    def load(self, retry: bool) -> None:
        """Read what is there. With `retry` the rows of failures are forgotten, so that these are done again."""
        if not self.jsonl.is_file():
            return
        start = 0
        with self.jsonl.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # else a kill cut it: nobody has seen it
                    row = self._read(line)
                    if row.result or not retry:
                        self._place(row, start)
                start += len(line)

    def _read(self, line: bytes) -> Row:
        try:
            row = Row.from_json(json.loads(line))
            if not 0 <= self._key(row.item) < len(self.starts):
                raise ValueError("it is of another batch")
            return row
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.jsonl} cannot be read ({error}); delete it, and it is made anew from the results"
            ) from None

    def _place(self, row: Row, start: int) -> None:
        key = self._key(row.item)
        self.starts[key], self._failed[key] = start, row.result is None

    def _key(self, item: Item) -> int:
        return int(item.number) * self.jobs + int(item.job or 0)

    def has(self, item: Item) -> bool:
        """Whether this result has its row."""
        return self.starts[self._key(item)] != ABSENT

    def is_complete(self, number: int) -> bool:
        """Whether every job of this image has its row."""
        first = number * self.jobs
        return ABSENT not in self.starts[first : first + self.jobs]

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.starts) - self.starts.count(ABSENT)

    @property
    def failures(self) -> int:
        """How many of them are failures."""
        return sum(self._failed)

    def rows(self) -> Iterator[Row]:
        """Every row, in the images' order, from the file."""
        return (self._read(line) for _, line in self._sorted_lines())

    def _sorted_lines(self) -> Iterator[tuple[int, bytes]]:
        """Places in `starts`, and the lines that begin there, in the images' order."""
        if not self.jsonl.is_file():
            return
        with self.jsonl.open("rb") as file:
            for key, start in enumerate(self.starts):
                if start != ABSENT:
                    file.seek(start)
                    yield key, file.readline()

    def append(self, row: Row) -> None:
        """One more row, in both files at once: readers never see half a line of it."""
        self._place(row, self._open_jsonl.tell())
        self._is_sorted = False
        for file, line in zip((self._open_jsonl, self._open_csv), self._lines(row), strict=True):
            try:
                file.write(line)
                file.flush()
            except OSError as error:
                raise self._explain_no_room(file.name, error) from error

    def _lines(self, row: Row) -> tuple[bytes, bytes]:
        """A row as index.jsonl and the CSV file have it."""
        values = row.to_json()
        line = json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"
        return line.encode("utf-8", "surrogatepass"), self._encode_csv(values)

    def _encode_csv(self, values: Mapping[str, Any]) -> bytes:
        return format_csv(values, self.varied).encode("utf-8", "surrogateescape")

    def _explain_no_room(self, name: object, error: OSError) -> SpadeError:
        advice = advise_on_room(error) or "free some space"
        return SpadeError(f"cannot write {name}: {error}; {advice} and resume with resume=")

    def sort(self) -> None:
        """Both files anew, in the images' order, each whole or as it was. Lines are copied: a million take a while."""
        starts = array("q", [ABSENT]) * len(self.starts)
        jsonl, table = (path.with_name(path.name + ".part") for path in (self.jsonl, self.csv))
        try:
            with jsonl.open("wb") as lines, table.open("wb") as cells:
                cells.write(_csv_line(name_columns(self.varied)).encode())
                for key, line in self._sorted_lines():
                    starts[key] = lines.tell()
                    lines.write(line)
                    cells.write(self._encode_csv(json.loads(line)))
            jsonl.replace(self.jsonl)
            table.replace(self.csv)
        except OSError as error:
            raise self._explain_no_room(self.jsonl, error) from error
        self.starts, self._is_sorted = starts, True

    def __enter__(self) -> "Table":
        self.sort()
        self._open_jsonl: BinaryIO = self.jsonl.open("ab")
        self._open_csv: BinaryIO = self.csv.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._open_jsonl, self._open_csv):
            with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
                file.close()  # on a full disk it tries once more to write what could not be written
        if kind is None and not self._is_sorted:
            self.sort()
