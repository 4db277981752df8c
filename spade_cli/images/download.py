"""A URL -> a local copy of the picture, or one line that says why there is none."""

import contextlib
import http.client
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from spade_cli.errors import UserError, error_line
from spade_cli.files import shorten_name
from spade_cli.version import __version__

URL = re.compile(r"[a-zA-Z][\w+.-]*(::|://)")
WEB = ("http://", "https://")  # read by Python: fsspec would need one more library
PATIENCE = 20.0  # seconds without a byte from a server
MAX_BYTES = 600_000_000  # a picture of 100 million pixels, uncompressed, with 16 bits a colour
CHUNK = 1_000_000  # bytes read at a time, and the most that is fetched of a file beyond MAX_BYTES
NAME_BYTES, SUFFIX_BYTES = 150, 20  # of the copy's name: file names have a limit, addresses have none


def is_url(address: str) -> bool:
    """Whether an address has a protocol, and is not a file on this machine.

    >>> [is_url(address) for address in ("s3://bucket/a.jpg", "memory://a", "C:/a.jpg", "a b.jpg")]
    [True, True, False, False]
    """
    return URL.match(address) is not None


def is_web(address: str) -> bool:
    """Whether an address is on the web, where files can be read and folders cannot be listed."""
    return address.lower().startswith(WEB)


def open_filesystem(url: str, key: str) -> tuple[Any, str]:
    """fsspec's file system and path of a URL. Raises UserError for one that is unknown or needs a library."""
    import fsspec

    try:
        fs, path = fsspec.url_to_fs(url)
        return fs, str(path)
    except ImportError as error:
        raise UserError(f"{key}={url}: {error}; install it beside spade") from None
    except Exception as error:  # whatever the store's own library raises
        raise UserError(f"{key}={url} cannot be opened ({type(error).__name__}: {error}); check the URL") from error


def name_file(address: str) -> str:
    """A file name for an address: its last part, without a web address's query.

    >>> name_file("https://example.org/photos/my%20cat.jpg?size=3&sign=ab/c")
    'my cat.jpg'
    """
    path = urllib.parse.unquote(urllib.parse.urlsplit(address).path) if is_web(address) else address
    last = re.sub(r'[\\:*?"<>|\0]', "-", path.rstrip("/").rsplit("/", 1)[-1])
    stem, suffix = Path(last).stem, Path(last).suffix
    return shorten_name(stem, NAME_BYTES) + shorten_name(suffix, SUFFIX_BYTES) if stem.strip(".") else "image"


def copy_to_folder(address: str, folder: Path) -> Path:
    """The picture as a local file: a path as it is, or a copy in `folder` of what the URL holds.

    Raises UserError where the URL cannot be read, or holds more than any picture.
    """
    if not is_url(address):
        return Path(address)
    copy = folder / name_file(address)
    try:
        with _open_address(address) as source, copy.open("wb") as target:
            _copy_bytes(source, target, address)
    except UserError:
        raise
    except Exception as error:  # whatever the store's own library raises
        raise UserError(f"image={address} cannot be fetched: {_find_reason(error)}") from error
    return copy


@contextlib.contextmanager
def _open_address(address: str) -> Iterator[IO[bytes]]:
    if is_web(address):
        asked = urllib.request.Request(address, headers={"User-Agent": f"spade/{__version__}"})
        with urllib.request.urlopen(asked, timeout=PATIENCE) as source:
            yield source
    else:
        fs, path = open_filesystem(address, "image")
        if fs.isdir(path):
            raise UserError(f"image={address} is a folder: give the URL of one picture")
        with fs.open(path, "rb") as source:
            yield source


def _copy_bytes(source: IO[bytes], target: IO[bytes], address: str) -> None:
    total = 0
    while chunk := source.read(CHUNK):
        total += len(chunk)
        if total > MAX_BYTES:
            raise UserError(f"image={address} holds more than {MAX_BYTES // 1_000_000} MB: give the URL of a picture")
        target.write(chunk)


def _find_reason(error: Exception) -> str:
    """Why a URL could not be read, and what to do."""
    if isinstance(error, urllib.error.HTTPError):
        answer = f"the server answers {error.code} {error.reason}".rstrip()
        return f"{answer}; check the URL in a browser, or give a file"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, FileNotFoundError):
        return "nothing is there; check the URL"
    if isinstance(cause, socket.gaierror):
        return "no server of that name can be reached; check the URL and the network, or give a file"
    if isinstance(cause, TimeoutError):
        return f"no answer for {PATIENCE:g} seconds; check the network, or give a file"
    said = getattr(cause, "strerror", None) or error_line(cause, None)
    if isinstance(cause, OSError | http.client.HTTPException | str):
        return f"{said}; check the URL and the network, or give a file"
    return f"{type(cause).__name__}: {said}; check the URL, or give a file"
