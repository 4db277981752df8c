"""A file of weights (.pth, .pt, .ckpt, .safetensors or .npz) -> what it holds. No code in the file is run."""

import argparse
import collections
import contextlib
import datetime
import pathlib
import pickle
import pickletools
import re
import shlex
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from spade_cli.errors import UserError

FORMATS = ".pth, .pt, .ckpt, .safetensors or .npz"
PICKLE = b"\x80"  # the first byte of every pickle since 2003
ZIP = b"P"  # the first byte of torch's files since 2020
LEGACY = 0x1950A86A20F9469CFC6C  # how torch began its files until 2020; three short pickles come before the weights
# Types that training scripts save beside the weights. They only hold values: reading them runs no code.
HARMLESS: list[Any] = [
    *(argparse.Namespace, types.SimpleNamespace, torch.torch_version.TorchVersion),
    *(datetime.datetime, datetime.date, datetime.timedelta, datetime.timezone),
    *(
        (kind, f"{home}.{name}")  # their names before and since Python 3.13
        for home in ("pathlib", "pathlib._local")
        for name, kind in (("PosixPath", pathlib.PurePosixPath), ("WindowsPath", pathlib.PureWindowsPath))
    ),
    *(np.dtype, np.ndarray, *(type(np.dtype(kind)) for kind in (*np.typecodes["All"], "O"))),
    *(
        (function, f"numpy.{core}.multiarray.{name}")  # their names before and since numpy 2
        for core in ("core", "_core")
        for name, function in (
            ("scalar", np.float64(0).__reduce__()[0]),
            ("_reconstruct", np.zeros(0).__reduce__()[0]),
        )
    ),
]
ULTRALYTICS = "ultralytics."  # its files hold whole networks, which only its own classes can be made of
ORDERED = "collections.OrderedDict"  # the type of a state dict
NETWORKS = ("model", "net", "network", "module", "ema", "model_ema")  # keys that hold whole networks
SILENT = ("PROTO", "FRAME", "MARK")  # steps of a pickle that make no object


def read_weight_file(path: Path, asked: str) -> object:
    """The content of the file as it was saved: tensors, arrays and what was saved beside them.

    Raises UserError, which starts with `asked`, for a file that cannot be read without running code in it.
    """
    try:
        if path.is_dir():
            raise UserError(f"{asked} is a folder: give the path of a {FORMATS} file")
        if not path.exists():
            raise UserError(f"{asked}: no such file; give a path, default (the library's weights) or none (untrained)")
        if not path.is_file():
            raise UserError(f"{asked} is not an ordinary file: give the path of a {FORMATS} file")
        if path.stat().st_size == 0:
            raise UserError(f"{asked} is empty (0 bytes): get the file again")
        return _reader_of(path)(path, asked)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise UserError(
            f"{asked} cannot be read ({getattr(error, 'strerror', None) or error}): check the path and its permissions"
        ) from None


def _reader_of(path: Path) -> Callable[[Path, str], object]:
    """The function that reads this format: told by the content, or by the name where the content is cut or damaged."""
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix.lower() == ".safetensors" or (start[8:] == b"{" and not start.startswith((PICKLE, ZIP))):
        return _read_safetensors
    if path.suffix.lower() == ".npz" or any(name.endswith(".npy") for name in _members(path)):
        return _read_npz
    return _read_torch


def _members(path: Path) -> list[str]:
    """Names of the files in a zip file; none for any other file."""
    if not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile:  # the function that reads it says so
        return []


def _read_safetensors(path: Path, asked: str) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{asked} is not a whole safetensors file ({error}): get it again") from None


def _read_npz(path: Path, asked: str) -> object:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except PermissionError:
        raise
    except Exception as error:  # whatever numpy and zipfile raise about a damaged file
        if "allow_pickle" in str(error):
            line = f"import numpy as np; c = np.load({str(path)!r}, allow_pickle=True); np.savez({_new_path(path)!r}, "
            line += "**{k: c[k] for k in c.files if c[k].dtype != object})"
            raise UserError(f"{_describe_refusal(asked)}; {_say_how_to_convert(path, line)}") from None
        raise UserError(
            f"{asked} is truncated or not an .npz file ({_first_sentence(error)}): get the file again"
        ) from None


def _read_torch(path: Path, asked: str) -> object:
    members = _members(path)
    if any("/code/" in name for name in members):
        line = f"import torch; torch.save(torch.jit.load({str(path)!r}, 'cpu').state_dict(), {_new_path(path)!r})"
        raise UserError(f"{asked} is TorchScript, a program; {_say_how_to_convert(path, line)}")
    if any(name.endswith("/archive_format") for name in members):
        line = f"import torch; torch.save(torch.export.load({str(path)!r}).state_dict, {_new_path(path)!r})"
        raise UserError(f"{asked} is an exported program; {_say_how_to_convert(path, line)}")
    start = _first_byte(path)
    if start not in (PICKLE, ZIP):
        raise UserError(f"{asked} is not a checkpoint that torch can read: give a {FORMATS} file")
    if start == PICKLE and _is_plain_pickle(path):
        load = f"import pickle; c = pickle.load(open({str(path)!r}, 'rb'))"
        raise UserError(f"{_describe_refusal(asked)}; {_say_how_to_convert_pickle(path, load)}")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")  # torch warns about pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+)", str(error))
        if called and called[1].startswith(ULTRALYTICS):
            raise UserError(f"{_describe_refusal(asked, called[1])}; {_say_how_to_load_ultralytics(path)}") from None
        load = f"c = torch.load({str(path)!r}, 'cpu', weights_only=False)"
        raise UserError(
            f"{_describe_refusal(asked, called[1] if called else None)}; {_say_how_to_convert_pickle(path, load)}"
        ) from None
    except PermissionError:
        raise
    except Exception as error:  # whatever torch raises about a damaged file
        raise UserError(
            f"{asked} is truncated or not a checkpoint ({_first_sentence(error)}): get the file again"
        ) from None


def _is_plain_pickle(path: Path) -> bool:
    """Whether a file is a pickle that torch did not write."""
    try:
        with path.open("rb") as file:
            return all(argument != LEGACY for _, argument, _ in pickletools.genops(file))
    except Exception:  # whatever pickletools raises about a damaged pickle
        return False


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _say_how_to_load_ultralytics(path: Path) -> str:
    """The two lines of Python that let Ultralytics itself open its file, and the command that uses them."""
    return (
        f"if you trust it, write these two lines into mynets.py: from ultralytics import YOLO, and net = "
        f"YOLO({str(path)!r}).model; and give model=python model.factory=mynets.py:net model.size=224 "
        "'model.mean=[0,0,0]' 'model.std=[1,1,1]' instead of model.weights"
    )


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).split(". ")[0] or type(error).__name__


def _describe_refusal(asked: str, called: str | None = None) -> str:
    which = f" ({called})" if called else ""
    return f"{asked} is a pickle that could run code{which}, so it was not opened"


def _new_path(path: Path) -> str:
    """The file that the line for the user writes, with the weights alone."""
    return str(path.with_name(f"{path.stem}-weights{'.npz' if path.suffix == '.npz' else '.pth'}"))


def _say_how_to_convert(path: Path, line: str) -> str:
    """What the user can do: a line for a shell that runs Python."""
    quoted = shlex.quote(line) if re.search(r'["$`\\!]', line) else f'"{line}"'
    return f"if you trust it, make {_new_path(path)} and give that: python -c {quoted}"


def _say_how_to_convert_pickle(path: Path, load: str) -> str:
    return _say_how_to_convert(path, f"import torch; {load}; torch.save({_find_weights(path)}, {_new_path(path)!r})")


def _find_weights(path: Path) -> str:
    """A Python expression for the weights in `c`, from the steps of the pickle; none of them is run."""
    try:
        objects = _list_objects(path)
    except Exception:  # whatever pickletools raises about a damaged pickle
        objects = []
    if objects and objects[0] != ("class", ORDERED) and objects[0][0] == "class":
        return "c.state_dict()"
    for (kind, key), value in pairwise(objects):
        if kind == "text" and not key.startswith("_") and value == ("class", ORDERED):
            return f"c[{key!r}]"
        if kind == "text" and key in NETWORKS and value[0] == "class":
            return f"c[{key!r}].state_dict()"
    return "{k: v for k, v in c.items() if isinstance(v, torch.Tensor)}"


def _list_objects(path: Path) -> list[tuple[str, str]]:
    """The objects that a pickle would make, in order: ("text", itself), ("class", its name), ("other", the step)."""
    objects: list[tuple[str, str]] = []
    memo: dict[int, tuple[str, str]] = {}
    with _open_pickle(path) as file:
        for step, argument, _ in pickletools.genops(file):
            if step.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                memo[len(memo) if argument is None else int(argument)] = objects[-1]
            elif step.name in ("BINGET", "LONG_BINGET"):
                objects.append(memo[int(argument or 0)])
            elif "UNICODE" in step.name:
                objects.append(("text", str(argument)))
            elif step.name == "GLOBAL":
                objects.append(("class", str(argument).replace(" ", ".")))
            elif step.name == "STACK_GLOBAL":
                (_, name), (_, module) = objects.pop(), objects.pop()
                objects.append(("class", f"{module}.{name}"))
            elif step.name == "BINPERSID" and objects[-5:-4] == [("text", "module")]:  # a class and its source code
                objects[-5:] = [objects[-4]]
            elif step.name not in SILENT:
                objects.append(("other", step.name))
    return objects


@contextlib.contextmanager
def _open_pickle(path: Path) -> Iterator[IO[bytes]]:
    """The pickle that holds the weights, in any of torch's formats."""
    inner = next((name for name in _members(path) if name.endswith("/data.pkl")), None)
    if inner is not None:
        with zipfile.ZipFile(path) as archive, archive.open(inner) as file:
            yield file
        return
    with path.open("rb") as file:
        if not _is_plain_pickle(path):
            for _ in range(3):  # torch's own, which come first
                collections.deque(pickletools.genops(file), maxlen=0)
        yield file
