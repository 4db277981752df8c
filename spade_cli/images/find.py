"""images=FOLDER|GLOB|LIST|PICTURE -> paths or URLs of pictures, in a fixed order."""

import glob
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.images.download import is_url, is_web, open_filesystem

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".avif", ".mpo")
ARRAY = ".npy"  # in a folder it may hold anything: a pattern or a list has to name it
WILD = "*?["
LISTS = (".txt", ".lst", ".list")
# spade wrote a folder that holds one of these: its pictures are results, not images.
RESULTS = ("summary.json", "batch.json", "sweep.json", "evaluation.json", "trojans.json")


def find_images(images: str, out: str) -> Iterator[str]:
    """Paths or URLs, sorted by name, folder by folder; those of a list in its own order, each once.

    A folder is searched with its sub-folders, except hidden ones, `out`, and what spade wrote. Raises UserError where
    there are no pictures.
    """
    found = _find_in_url(images) if is_url(images) else _find_in_path(images, out)
    try:
        first = next(found)
    except StopIteration:
        raise UserError(
            f"images={images} holds no pictures; give a folder, a pattern such as 'photos/**/*.jpg', or a text file "
            "with a path a line"
        ) from None
    return chain([first], found)


def find_pictures(folder: Path, out: Path) -> list[Path]:
    """Every picture in a folder and below, sorted by path; without those in `out`.

    Raises UserError where the folder is missing or holds none.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is not there"
        raise UserError(f"images={folder} {found}; give a folder of pictures")
    pictures = sorted(Path(path) for path in _walk_folder(folder, out.resolve()))
    if not pictures:
        raise UserError(f"images={folder} holds no pictures; give a folder with files such as cat.jpg")
    return pictures


def _find_in_path(images: str, out: str) -> Iterator[str]:
    path = expand_path(images)
    if path.is_dir():
        return _walk_folder(path, Path(out).resolve())
    if path.is_file():
        return _read_list(path) if path.suffix.lower() in LISTS else iter([str(path)])
    if any(sign in images for sign in WILD):
        matches = sorted(glob.iglob(str(path), recursive=True))  # noqa: PTH207 (an absolute pattern is one as well)
        named = (match for match in matches if _is_picture(match) or match.lower().endswith(ARRAY))
        return (match for match in named if Path(match).is_file())
    raise UserError(f"images={images} is not there; give a folder, a pattern, or a text file with a path a line")


def _walk_folder(root: Path, out: Path) -> Iterator[str]:
    if (root / "labels.json").is_file() and (root / "images").is_dir():
        root = root / "images"  # written by spade world or spade implant: the masks beside are not images
    for folder, below, files in os.walk(root):
        here = Path(folder)
        below[:] = sorted(name for name in below if not name.startswith(".") and (here / name).resolve() != out)
        if here != root and any(name in RESULTS for name in files):
            below.clear()
            continue
        yield from (str(here / name) for name in sorted(files) if _is_picture(name))


def _is_picture(name: str) -> bool:
    base = os.path.basename(name)  # noqa: PTH119 (a million of them)
    return base.lower().endswith(SUFFIXES) and not base.startswith(".")


def _read_list(path: Path) -> Iterator[str]:
    """One path or URL a line, each once; relative paths start in the current folder."""
    seen = set()
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                address = line.strip()
                if address and address not in seen:
                    seen.add(address)
                    yield address if is_url(address) else str(expand_path(address))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"images={path} cannot be read as a list ({error}); write a path a line, in UTF-8") from None


def _find_in_url(images: str) -> Iterator[str]:
    if is_web(images):  # one picture: folders of the web cannot be listed
        return iter([images])
    fs, path = open_filesystem(images, "images")
    try:
        if any(sign in path for sign in WILD):
            found = [name for name in fs.glob(path) if _is_picture(name)]
        elif fs.isdir(path):
            found = [name for name in fs.find(path) if _is_picture(name) and "/." not in name[len(path) :]]
        else:
            found = [path] if fs.exists(path) else []
    except Exception as error:  # whatever the store's own library raises
        raise UserError(f"images={images} cannot be listed ({type(error).__name__}: {error}); check the URL") from error
    return iter([fs.unstrip_protocol(name) for name in sorted(found)])
