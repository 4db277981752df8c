"""One folder per run: filled out of sight, renamed once it is whole."""

import contextlib
import errno
import itertools
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from spade_cli.errors import UserError

NAME_LENGTH = 60  # of the image's name within the folder's: stays under the 255 bytes of a file name in any script


@dataclass
class RunFolder:
    """Where a run writes, and where its folder is in the end."""

    partial: Path  # hidden, while the run goes on
    path: Path  # settled when the run is complete


@contextlib.contextmanager
def run_folder(output: Path, name: str) -> Iterator[RunFolder]:
    """`<output>/<date>/<time>-<name>`: a hidden folder within the block, renamed at its end, removed after any
    exception.

    A second run in the same second gets "-2" behind its name. Raises UserError where the output folder cannot be made
    or written to.
    """
    now = datetime.now()
    day = output / f"{now:%Y-%m-%d}"
    wanted = day / f"{now:%H-%M-%S}-{slug(name)}"
    made = [folder for folder in (day, *day.parents) if not folder.exists()]  # the deepest first
    try:
        folder = RunFolder(day / f".{wanted.name}-{secrets.token_hex(4)}.partial", wanted)
        folder.partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"output={output}: cannot write there ({error.strerror}); give another folder with output=DIR"
        ) from error
    try:
        yield folder
        folder.path = _rename(folder.partial, wanted)
    except BaseException:
        shutil.rmtree(folder.partial, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # another run may have come to use it
                parent.rmdir()
        raise


def slug(name: str) -> str:
    """A file name that every system takes and a shell need not quote: letters and digits of any script, the rest as
    "-".
    """
    return re.sub(r"[^\w.]+", "-", name).strip("-.")[:NAME_LENGTH].strip("-.") or "image"


def _rename(partial: Path, wanted: Path) -> Path:
    for count in itertools.count(1):
        path = wanted if count == 1 else wanted.with_name(f"{wanted.name}-{count}")
        try:
            if path.exists():
                continue
            return partial.rename(
                path
            )  # fails if another run's folder came to stand there in between: it is never empty
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    raise AssertionError("unreachable")
