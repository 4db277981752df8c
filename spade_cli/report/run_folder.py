"""One folder per run: filled out of sight, renamed once it is whole."""

import contextlib
import errno
import itertools
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from spade_cli.errors import SpadeError, UserError, advise_on_room, error_line
from spade_cli.files import shorten_name

NAME_LENGTH = 60  # characters of the image's name within the folder's
NAME_BYTES = 180  # of 255 that file systems allow: the rest is for what stands before and behind


@dataclass
class RunFolder:
    """Where a run writes, and where its folder is in the end."""

    partial: Path  # hidden, while the run goes on
    path: Path  # settled when the run is complete


@contextlib.contextmanager
def run_folder(output: Path, name: str) -> Iterator[RunFolder]:
    """`<output>/<date>/<time>-<name>`: hidden within the block, renamed at its end, gone after any exception.

    A second run in the same second gets "-2" behind its name. Raises UserError where the output folder cannot be made
    or written to.
    """
    wanted = _date_path(output, name)
    with _hide_folder(wanted, f"out={output}") as partial:
        folder = RunFolder(partial, wanted)
        yield folder
        folder.path = _rename(partial, wanted)


@contextlib.contextmanager
def new_folder(out: Path, asked: str) -> Iterator[Path]:
    """A folder of the caller's choice: hidden within the block, `out` at its end, gone after any exception.

    Raises UserError, beginning with what was `asked`, where `out` holds something already or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{asked}: {out} is there already; give a new folder, or remove that one")
    with _hide_folder(out, asked) as partial:
        yield partial
        if out.exists():
            out.rmdir()  # it is empty; where a rename replaces such a folder, and where it does not
        partial.rename(out)


@contextlib.contextmanager
def _hide_folder(wanted: Path, asked: str) -> Iterator[Path]:
    """A hidden folder beside the wanted one; after an exception it is gone, and so is every parent made for it."""
    partial = wanted.with_name(f".{wanted.name}-{secrets.token_hex(4)}.partial")
    parents = [folder for folder in wanted.parents if not folder.exists()]  # the deepest first
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{asked}: cannot write there ({error.strerror}); give another folder") from error
    try:
        yield partial
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in parents:
            with contextlib.suppress(OSError):  # another run may have come to use it
                parent.rmdir()
        advice = advise_on_room(error)
        if advice is not None and not isinstance(error, SpadeError):  # else it says already which file it is about
            raise SpadeError(f"{asked}: cannot write there ({error_line(error)}); {advice}") from error
        raise


def free_path(output: Path, name: str) -> Path:
    """`<output>/<date>/<time>-<name>`, with "-2" and so on behind it where that is taken; nothing is made."""
    wanted = _date_path(output, name)
    return next(path for path in _list_names(wanted) if not path.exists())


def _date_path(output: Path, name: str) -> Path:
    now = datetime.now()
    return output / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{slug(name[:NAME_LENGTH])}"


def _list_names(wanted: Path) -> Iterator[Path]:
    yield wanted
    yield from (wanted.with_name(f"{wanted.name}-{count}") for count in itertools.count(2))


def slug(name: str) -> str:
    """A file name that no shell need quote: letters and digits of any script, "-" for the rest; 180 bytes at most."""
    return shorten_name(re.sub(r"[^\w.]+", "-", name).strip("-."), NAME_BYTES).rstrip("-.") or "image"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """A file name for each name; where two become one, also for file systems that ignore case, the later gets "-2".

    >>> slugs(["3-a b", "3-A:B"])
    {'3-a b': '3-a-b', '3-A:B': '3-A-B-2'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = slug(name)
        versions = (plain if count == 1 else f"{plain}-{count}" for count in itertools.count(1))
        found[name] = next(version for version in versions if version.casefold() not in taken)
        taken.add(found[name].casefold())
    return found


def _rename(partial: Path, wanted: Path) -> Path:
    for path in _list_names(wanted):
        try:
            if path.exists():
                continue
            # This fails if another run's folder came to stand there in between: it is never empty.
            return partial.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    raise AssertionError("unreachable")
