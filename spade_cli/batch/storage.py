"""Where a batch writes: a local folder or a store behind a URL (fsspec). A result appears whole or not at all."""

import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spade_cli.errors import StoreError, error_line
from spade_cli.files import shorten_name, write_whole
from spade_cli.images.download import is_url, open_filesystem

PARTIAL = ".partial"  # unfinished results; deleted after a kill
LAST = "summary.json"  # uploaded last: where it is, a result is complete
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds between two tries: a store that restarts is back within a minute
ANSWERS = (PermissionError, NotImplementedError, ValueError, TypeError)  # asking again changes none of these


@dataclass(frozen=True)
class Local:
    """A folder on a disk; results are renamed into it."""

    root: Path

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.root / name).is_file()

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return (self.root / name).read_bytes()

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a file, whole or not at all."""
        write_whole(self.root / name, write)

    @contextlib.contextmanager
    def result(self, name: str) -> Iterator[Path]:
        """A folder to fill; `name` at the end of the block, gone after any exception.

        Where another worker came to write the same result, the first one stays.
        """
        partial = self.root / PARTIAL / f"{shorten_name(name.replace('/', '+'), 100)}-{secrets.token_hex(4)}"
        partial.mkdir(parents=True)
        try:
            yield partial
            final = self.root / name
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                partial.rename(final)
            except OSError:  # another worker was quicker; a full disk keeps its own error
                if not (final / LAST).is_file():
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def clean(self) -> None:
        """Delete what a kill left unfinished."""
        shutil.rmtree(self.root / PARTIAL, ignore_errors=True)


@dataclass(frozen=True)
class Remote:
    """A store behind a URL; results are uploaded from a temporary folder, the file that completes them last."""

    url: str

    def has(self, name: str) -> bool:
        """Whether a file is there. A store that does not answer is no "no": a batch would begin anew over it."""
        try:
            self._ask(lambda fs, path: fs.info(f"{path}/{name}"))
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises FileNotFoundError where there is none."""
        return bytes(self._ask(lambda fs, path: fs.cat_file(f"{path}/{name}")))

    def write(self, name: str, write: Callable[[Path], object]) -> None:
        """Upload a file; stores show it whole or not at all."""
        with tempfile.TemporaryDirectory(prefix="spade-") as folder:
            written = Path(folder, "file")
            write(written)
            self._put({name: written})

    def download(self, name: str, path: Path) -> bool:
        """Copy a file to a local path, piece by piece: a table may be larger than the memory. False: none is there."""
        try:
            self._ask(lambda fs, root: fs.get_file(f"{root}/{name}", str(path)))
        except FileNotFoundError:
            return False
        return True

    def upload(self, file: Path, name: str) -> None:
        """Put a local file there under this name; stores show it whole or not at all."""
        self._put({name: file})

    @contextlib.contextmanager
    def result(self, name: str) -> Iterator[Path]:
        """A folder to fill, uploaded at the end of the block."""
        with tempfile.TemporaryDirectory(prefix="spade-") as folder:
            partial = Path(folder)
            yield partial
            files = [path for path in sorted(partial.rglob("*")) if path.is_file() and path.name != LAST]
            self._put({f"{name}/{file.relative_to(partial).as_posix()}": file for file in files})
            self._put({f"{name}/{LAST}": partial / LAST})

    def clean(self) -> None:
        """Nothing to do: a result without its last file does not count, and is uploaded again."""

    def _put(self, files: Mapping[str, Path]) -> None:
        """Upload files under these names, side by side where the store's library can: an upload is mostly waiting."""

        def upload(fs: Any, path: str) -> None:
            here, there = [str(file) for file in files.values()], [f"{path}/{name}" for name in files]
            try:
                fs.put(here, there)
            except FileNotFoundError:  # a folder is not there; asking before each file would double the requests
                for folder in {name.rsplit("/", 1)[0] for name in there}:
                    fs.makedirs(folder, exist_ok=True)
                fs.put(here, there)

        try:
            self._ask(upload)
        except FileNotFoundError as error:  # no such bucket
            raise self._explain(error) from error

    def _ask(self, do: Callable[[Any, str], Any]) -> Any:
        """What `do(file system, path)` returns, asked again where the store does not answer.

        Raises FileNotFoundError, or StoreError where the store refuses, or does not answer for long.
        """
        fs, path = open_filesystem(self.url, "out")
        for pause in (*PAUSES, None):
            try:
                return do(fs, path)
            except FileNotFoundError:
                raise
            except Exception as error:  # whatever the store's own library raises
                if pause is None or isinstance(error, ANSWERS):
                    raise self._explain(error) from error
                time.sleep(pause)
        raise AssertionError  # the last try returns or raises

    def _explain(self, error: Exception) -> StoreError:
        reason = f"{type(error).__name__}: {error_line(error)}"
        return StoreError(f"out={self.url}: {reason}; resume with resume={self.url}")


Storage = Local | Remote


def open_storage(out: str) -> Storage:
    """The place that `out=` names; file:// is a local folder."""
    if out.startswith("file://"):
        out = open_filesystem(out, "out")[1]
    return Remote(out.rstrip("/")) if is_url(out) else Local(Path(out))
