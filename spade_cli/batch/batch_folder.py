"""The folder of a batch: its command, the list of its images, and a lock: one process at a time works in it."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spade_cli.batch.storage import Local, Remote, Storage, open_storage
from spade_cli.errors import UserError
from spade_cli.files import About, check_folder, compare_settings, read_about

LIST = "images.jsonl"
LOCK = ".lock"
RESULTS = "images"  # below it are the results


@dataclass(frozen=True)
class AboutBatch(About):
    """What the folder of a batch or a sweep says of itself."""

    images: int


class BatchFolder:
    """A batch's output, local or remote. The table is in the local folder `here` while it grows."""

    def __init__(self, out: str, kind: str) -> None:
        self.out, self.kind = out, kind
        self.storage: Storage = open_storage(out)
        self.is_new = False  # made by this process, which may delete it
        self.about_name = f"{kind}.json"

    def check(self) -> None:
        """Raises UserError for a folder with other files: it may hold work of the user's own."""
        if isinstance(self.storage, Remote) or self.has_begun():
            return
        check_folder(self.storage.root, (self.about_name,), self.kind, ours=(LIST, LOCK))

    def has_begun(self) -> bool:
        """Whether a batch has started there."""
        return self.storage.has(self.about_name)

    def begin(self, identity: Mapping[str, Any], about: Mapping[str, Any], images: Iterable[str]) -> int:
        """Write what the batch is and the list of its images, or check that it is the same. Returns how many images."""
        if self.has_begun():
            there = about_folder(self.out, self.kind)
            compare_settings(self.out, there.identity, identity, self.kind, f"spade {self.kind} resume={self.out}")
            return there.images
        count = 0

        def write(path: Path) -> None:
            nonlocal count
            with path.open("w", encoding="utf-8") as file:
                for address in images:
                    file.write(json.dumps(address) + "\n")
                    count += 1

        self.storage.write(LIST, write)
        text = json.dumps({**about, "images": count, "identity": identity}, indent=2, ensure_ascii=False)
        self.storage.write(self.about_name, lambda path: path.write_text(text + "\n", encoding="utf-8"))
        return count

    def images(self, here: Path) -> Iterator[tuple[int, str]]:
        """Numbers and addresses, line by line."""
        with (here / LIST).open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                yield number, json.loads(line)

    def forget(self) -> None:
        """Delete a folder that this process made and that holds no result: after a mistake that every image repeats."""
        if self.is_new and isinstance(self.storage, Local) and not (self.storage.root / RESULTS).exists():
            shutil.rmtree(self.storage.root, ignore_errors=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[Path]:
        """Yields the local folder of the table and the list. Raises UserError where another process works in it."""
        if isinstance(self.storage, Remote):
            with tempfile.TemporaryDirectory(prefix="spade-") as spool:
                yield Path(spool)
            return
        root = self.storage.root
        try:
            self.is_new = not root.exists()
            root.mkdir(parents=True, exist_ok=not self.is_new)
        except FileExistsError:
            self.is_new = False  # another process was quicker
        except OSError as error:
            raise UserError(f"out={self.out}: cannot write there ({error.strerror}); give another folder") from error
        with _lock(root / LOCK, self.out):
            self.storage.clean()
            try:
                yield root
            finally:
                self.storage.clean()

    def fetch(self, here: Path, names: Iterable[str]) -> None:
        """Download a remote folder's files, those that exist."""
        if isinstance(self.storage, Remote):
            for name in names:
                self.storage.download(name, here / name)

    def publish(self, here: Path, names: Iterable[str]) -> None:
        """Upload files to a remote folder."""
        if isinstance(self.storage, Remote):
            for name in names:
                self.storage.upload(here / name, name)


@contextlib.contextmanager
def _lock(path: Path, out: str) -> Iterator[None]:
    """A lock that ends with the process that holds it, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows has none: nothing is locked
        yield
        return
    made = not path.exists()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:  # a folder that may only be read, or a full disk
        raise UserError(f"out={out}: cannot write there ({error.strerror}); give another folder") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"out={out}: another process is at work there; wait for its end, or stop it") from None
        yield
    except UserError:
        if made:  # a mistake leaves no file in a folder of others
            path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def about_folder(out: str, kind: str) -> AboutBatch:
    """What the folder of a batch or a sweep says of it. Raises UserError where there is no such folder."""
    return read_about(AboutBatch, open_storage(out).read, out, kind)
