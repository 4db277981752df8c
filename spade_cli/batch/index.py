"""The table of a batch: index.jsonl and a CSV file, a line for each result, appended as results come.

After a kill the files are mended: half a line goes. At the end the lines are in the images' order. What is kept in
memory is where each line begins, eight bytes a result.
"""

import json
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from spade_cli.batch.rows import FAILED, Row, as_csv, header
from spade_cli.errors import SpadeError, UserError

JSONL = "index.jsonl"
ABSENT = -1


class Index:
    """Rows by (image, job): `row["number"]` and, in a sweep, `row["job"]`; each once."""

    def __init__(self, folder: Path, table: str, images: int, options: Sequence[str] = (), jobs: int = 1) -> None:
        self.jsonl, self.csv = folder / JSONL, folder / table
        self.options, self.jobs = options, jobs
        self.starts = array("q", [ABSENT]) * (images * jobs)
        self.failed = bytearray(images * jobs)

    def load(self, retry: bool) -> None:
        """Read what is there. With `retry` the rows of failures are forgotten, so that these are done again."""
        if not self.jsonl.is_file():
            return
        start = 0
        with self.jsonl.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # else a kill cut it: it was never told to anybody
                    self._place(self._read(line), start, retry)
                start += len(line)

    def _place(self, row: Row, start: int, retry: bool) -> None:
        key = self._key(row)
        if not (retry and row["status"] == FAILED):
            self.starts[key], self.failed[key] = start, row["status"] == FAILED

    def _read(self, line: bytes) -> Row:
        try:
            row = json.loads(line)
            if not 0 <= self._key(row) < len(self.starts) or not isinstance(row["status"], str):
                raise ValueError("it is of another batch")
            return row
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.jsonl} cannot be read ({error}); delete it, and it is made anew from the results"
            ) from None

    def has(self, number: int, job: int = 0) -> bool:
        """Whether this result has its row."""
        return self.starts[number * self.jobs + job] != ABSENT

    def whole(self, number: int) -> bool:
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
        return sum(self.failed)

    def rows(self) -> Iterator[Row]:
        """Every row, in the images' order, from the file."""
        if not self.jsonl.is_file():
            return
        with self.jsonl.open("rb") as file:
            for start in self.starts:
                if start != ABSENT:
                    file.seek(start)
                    yield json.loads(file.readline())

    def append(self, row: Row) -> None:
        """One more row, in both files at once: readers never see half a line of it."""
        key = self._key(row)
        self.starts[key], self.failed[key] = self._file.tell(), row["status"] == FAILED
        self._write(self._file, _line(row))
        self._write(self._csv, as_csv(row, self.options).encode("utf-8", "surrogateescape"))

    def _write(self, file: BinaryIO, line: bytes) -> None:
        try:
            file.write(line)
            file.flush()
        except OSError as error:
            raise SpadeError(f"cannot write {file.name}: {error}; free some space and go on with resume=") from error

    def order(self) -> None:
        """Both files anew, in the images' order, each whole or as it was."""
        starts = array("q", [ABSENT]) * len(self.starts)
        lines, cells = (path.with_name(path.name + ".part") for path in (self.jsonl, self.csv))
        try:
            with lines.open("wb") as out, cells.open("wb") as table:
                table.write(header(self.options).encode())
                for row in self.rows():
                    starts[self._key(row)] = out.tell()
                    out.write(_line(row))
                    table.write(as_csv(row, self.options).encode("utf-8", "surrogateescape"))
            lines.replace(self.jsonl)
            cells.replace(self.csv)
        except OSError as error:
            raise SpadeError(f"cannot write {self.jsonl}: {error}; free some space and go on with resume=") from error
        self.starts = starts

    def _key(self, row: Row) -> int:
        return int(row["number"]) * self.jobs + int(row.get("job", 0))

    def __enter__(self) -> "Index":
        self.order()
        self._file: BinaryIO = self.jsonl.open("ab")
        self._csv: BinaryIO = self.csv.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._csv.close()
        if kind is None:
            self.order()


def _line(row: dict[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "surrogatepass")
