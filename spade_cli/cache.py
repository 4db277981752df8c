"""The cache: arrays that many runs make alike, a file each, whole and checked; the longest unused go first."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spade_cli.errors import SpadeError
from spade_cli.files import PART, expand_path, write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger("spade")

FOLDER = "visualizations"  # within the cache's own
LIMIT = 1e9  # bytes: the pictures of 1,600 classes at 224 pixels
LOST = 24 * 60 * 60  # seconds after which a file that was not written to its end is nobody's
ENTRY = re.compile(r"[0-9a-f]{32}\.safetensors(?P<part>\.\w+\.part)?")
ARRAY, CHECKSUM = "array", "sha256"


def default_folder() -> Path | None:
    """`$XDG_CACHE_HOME/spade`, else `~/.cache/spade`; None where there is no home."""
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (
        root if root.is_absolute() else expand_path("~/.cache")
    ) / "spade"  # its specification: not a relative one
    return folder if folder.is_absolute() else None


@dataclass(frozen=True)
class Entry:
    """One file of a cache."""

    path: Path
    notes: Mapping[str, str]  # what it is, for people; empty where it cannot be read
    bytes: int
    last_use: float  # seconds since 1970


@dataclass(frozen=True)
class Cache:
    """A folder of arrays by name, which several processes may share; it is made at the first `write`.

    A name is the fingerprint of all that its array depends on. Whatever fails here is logged, and costs time alone.
    """

    root: Path
    limit: float = LIMIT  # bytes

    @property
    def folder(self) -> Path:
        """Where the entries are."""
        return self.root / FOLDER

    def read(self, name: str) -> NDArray[np.float32] | None:
        """The array of this name; None where there is none, or a damaged one."""
        from safetensors import SafetensorError, safe_open

        path = self._path(name)
        try:
            with safe_open(path, framework="np") as file:
                array: NDArray[np.float32] = file.get_tensor(ARRAY)
                if _checksum(array) != file.metadata()[CHECKSUM]:
                    raise ValueError("its checksum is wrong")
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
            log.info("cache: %s is damaged (%s) and is made again", path, error)
            return None
        with suppress(OSError):
            os.utime(path)  # the time of the last use
        return array

    def write(self, name: str, array: NDArray[np.float32], notes: Mapping[str, str]) -> None:
        """Keep an array, and delete the longest unused ones beyond the limit."""
        import numpy as np
        from safetensors.numpy import save

        array = np.ascontiguousarray(array)  # safetensors writes the memory as it lies
        content = save({ARRAY: array}, {**notes, CHECKSUM: _checksum(array)})
        try:
            write_whole(self._path(name), lambda path: path.write_bytes(content), part=f".{uuid.uuid4().hex}{PART}")
        except SpadeError as error:
            log.warning("cache: %s", error)
        self._trim()

    def entries(self) -> list[Entry]:
        """What there is, the longest unused first."""
        found = []
        for path, match in self._files():
            with suppress(OSError):  # deleted meanwhile
                if match["part"] is None:
                    found.append(Entry(path, _read_notes(path), path.stat().st_size, path.stat().st_mtime))
        return sorted(found, key=lambda entry: (entry.last_use, entry.path))

    def clear(self) -> list[Entry]:
        """Delete every entry, and what was not written to its end; returns the entries."""
        entries = self.entries()
        for path, _ in self._files():
            path.unlink(missing_ok=True)
        return entries

    def _trim(self) -> None:
        """Delete what is beyond the limit, and what killed processes left."""
        files = []
        with suppress(OSError):  # deleted meanwhile by another process
            for path, match in self._files():
                stat = path.stat()
                if match["part"] is None:
                    files.append((stat.st_mtime, path, stat.st_size))
                elif stat.st_mtime < time.time() - LOST:
                    path.unlink(missing_ok=True)
            left = sum(size for *_, size in files)
            for _, path, size in sorted(files):
                if left <= self.limit:
                    break
                path.unlink(missing_ok=True)
                left -= size

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _files(self) -> Iterator[tuple[Path, re.Match[str]]]:
        """Files of the cache's own: what else lies in the folder is never touched."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if match := ENTRY.fullmatch(path.name):
                yield path, match


def _checksum(array: NDArray[np.float32]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _read_notes(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}
