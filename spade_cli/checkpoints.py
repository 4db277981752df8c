"""A path to weights: .pth, .pt or .safetensors -> state dict, fitted into a network. No code of a file is run."""

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError

NESTS = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile write before each name
PICKLE = b"\x80"  # the first byte of every pickle since 2003
DAMAGE = (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError)
NAMED = 3  # keys named in an error: enough to recognise the network, few enough for a line


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a file, unwrapped, in float32. Raises UserError for whatever is no state dict."""
    asked = f"model.weights={path}"
    try:
        if path.is_dir():
            raise UserError(f"{asked} is a folder: give the path of a .pth, .pt or .safetensors file")
        if not path.exists():
            raise UserError(f"{asked}: no such file; give a path, default (torchvision's weights) or none (untrained)")
        if not path.is_file():
            raise UserError(f"{asked} is no ordinary file: give the path of a .pth, .pt or .safetensors file")
        if path.stat().st_size == 0:
            raise UserError(f"{asked} is empty (0 bytes): get the file again")
        read = _read_safetensors if path.suffix.lower() == ".safetensors" else _read_torch
        content = read(path, asked)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise UserError(
            f"{asked} cannot be read ({getattr(error, 'strerror', None) or error}): check the path and its permissions"
        ) from None
    return _clean(_unwrap(content), asked)


def fit(network: nn.Module, state: Mapping[str, Tensor], asked: str, name: str) -> None:
    """Load the weights into the network. Raises UserError naming the first missing, unexpected and misshapen keys."""
    own = network.state_dict()
    bare = _bare_names(list(own))  # the network may be wrapped, too
    wanted = dict(zip(bare, own.values(), strict=True))
    # Checkpoints from before torch 0.4.1 do not count batches; nothing in eval mode reads the count.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    shapes = [
        f"{key} {tuple(state[key].shape)} where {tuple(wanted[key].shape)} is needed"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    kinds = [
        f"{key} {state[key].dtype} where {wanted[key].dtype} is needed"
        for key in wanted
        if key in state and wanted[key].is_floating_point() and not state[key].is_floating_point()
    ]
    found = [
        f"{word} {_first(keys)}"
        for word, keys in (("missing", missing), ("unexpected", unexpected), ("shape", shapes), ("kind", kinds))
        if keys
    ]
    if found:
        raise UserError(f"{asked} does not fit {name}: {'; '.join(found)}; choose the model it was saved from")
    named = dict(zip(bare, own, strict=True))
    network.load_state_dict({named[key]: value for key, value in state.items()}, strict=False)


def read_densenet_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DenseNet's published weights say `norm.1` where the network says `norm1`; all other names stay."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", key): value for key, value in state.items()}


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_state(network: nn.Module) -> str:
    """SHA-256 of a network's names and values, for weights that were in no file."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _first_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1)


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more


def _read_safetensors(path: Path, asked: str) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{asked} is no whole safetensors file ({error}): get it again") from None


def _read_torch(path: Path, asked: str) -> object:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                raise UserError(f"{asked} is TorchScript, a program: save the network's state_dict() instead")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch muses about pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path) and _first_byte(path) != PICKLE:
            raise UserError(
                f"{asked} is no checkpoint that torch can read: give a .pth, .pt or .safetensors file"
            ) from None
        called = re.search(r"GLOBAL (\S+)", str(error))
        which = f" ({called[1]})" if called else ""
        raise UserError(
            f"{asked} is a pickle that would run code{which}, so it was not opened: "
            "save model.state_dict() or .safetensors"
        ) from None
    except PermissionError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split()).split(". ")[0] or type(error).__name__
        raise UserError(f"{asked} is truncated or no checkpoint ({reason}): get the file again") from None


def _unwrap(content: object) -> object:
    """Out of `{"state_dict": {...}, "epoch": 3}`, and without `module.` before every name."""
    for _ in NESTS:  # a file may hold itself
        if isinstance(content, dict):
            content = next((content[key] for key in NESTS if isinstance(content.get(key), dict)), content)
    if isinstance(content, dict) and all(isinstance(key, str) for key in content):
        return dict(zip(_bare_names(list(content)), content.values(), strict=True))
    return content


def _bare_names(keys: list[str]) -> list[str]:
    """Without what wrappers write before every name, however many there were."""
    while wrapper := next((w for w in WRAPPERS if keys and all(key.startswith(w) for key in keys)), None):
        keys = [key.removeprefix(wrapper) for key in keys]
    return keys


def _clean(content: object, asked: str) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content:
        raise UserError(f"{asked} holds {type(content).__name__} and no weights by name: save model.state_dict()")
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{asked} holds {type(value).__name__} under {key!r} and no weights: save model.state_dict() alone"
            )
        if value.layout != torch.strided or value.is_meta:
            kind = "no values" if value.is_meta else f"a tensor of layout {value.layout}"
            raise UserError(f"{asked}: {key} holds {kind}: save the weights as plain dense tensors")
        state[key] = value.float() if value.is_floating_point() else value
        if value.is_floating_point() and not bool(torch.isfinite(state[key]).all()):
            raise UserError(
                f"{asked}: {key} holds values that are not finite; train again or take an earlier checkpoint"
            )
    return state
