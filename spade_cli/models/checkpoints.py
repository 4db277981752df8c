"""A path to weights -> the state dict in it that fits a network, loaded into it. No code of a file is run."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.models.weight_files import read_weight_file

# Where training scripts put the weights, the most usual first; averaged ones come after all others.
PLACES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
AVERAGED = re.compile(r"(^|_)ema(_|$)")
# What wrappers write into names: DataParallel before all of them, torch.compile and the others anywhere.
WRAPPER = "module."
INNER_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # published weights say norm.1 for norm1
DEEPEST = 5  # containers within containers that are searched: a file may hold itself
NAMED = 3  # keys named in an error: enough to recognise the network, few enough for a line


@dataclass(frozen=True)
class Part:
    """The values of a file that lie in one container and share a prefix."""

    place: tuple[str, ...]  # the keys that lead to the container
    prefix: str  # "model.", or empty
    values: dict[str, Any]  # by name without the prefix

    @property
    def words(self) -> tuple[str, ...]:
        """All that stands before the names, but for wrappers."""
        inner = [word for word in self.prefix.split(".") if word]
        return tuple(word for word in (*self.place, *inner) if f"{word}." != WRAPPER)

    @property
    def rank(self) -> int:
        """How unusual a place it is for the weights that people mean."""
        return max((_rank(word) for word in self.words), default=0)

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return ".".join(self.words) or "the top level"


def read_state_dict(path: Path, network: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights in a file that are meant for the network, in float32, by its own names; and what was assumed.

    They may lie in a container, and behind one prefix that all of them share; both are chosen by the network's names,
    and `fit` says whether everything is there. Raises UserError for a file that holds no weights, or several sets that
    fit equally well.
    """
    asked = f"model.weights={path}"
    content = read_weight_file(path, asked)
    parts = list(_parts(content))
    if not parts:
        raise UserError(f"{asked} holds {_summary(content)} and no weights by name: save model.state_dict()")
    wanted = {key: tuple(value.shape) for key, value in _own(network).items() if not _is_count(key)}
    chosen, others = _choose(parts, wanted, asked)
    return _clean(chosen, asked), _notes(chosen, others, parts, path)


def load_weights(network: nn.Module, state: Mapping[str, Tensor], asked: str, name: str) -> None:
    """Load the weights into the network. Raises UserError naming the first missing, unexpected and misshapen keys."""
    wanted = _own(network)
    missing = [key for key in wanted if key not in state and not _is_count(key)]
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
    named = dict(zip(wanted, network.state_dict(), strict=True))
    network.load_state_dict({named[key]: value for key, value in state.items()}, strict=False)


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


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more


def _own(network: nn.Module) -> dict[str, Tensor]:
    """The network's own values by their bare names: it may be wrapped, too."""
    state = network.state_dict()
    return dict(zip(_bare_names(list(state)), state.values(), strict=True))


def _bare_names(keys: list[str]) -> list[str]:
    """Without what wrappers write into names, however many there were, and with DenseNet's in their present form."""
    keys = [DENSENET.sub(r"\1\2.", INNER_WRAPPERS.sub("", key)) for key in keys]
    while keys and all(key.startswith(WRAPPER) for key in keys):
        keys = [key.removeprefix(WRAPPER) for key in keys]
    return keys


def _is_count(key: str) -> bool:
    """BatchNorm's count of batches: weights from before torch 0.4.1 lack it, and nothing in eval mode reads it."""
    return key.endswith("num_batches_tracked")


def _parts(content: object, place: tuple[str, ...] = ()) -> Iterator[Part]:
    """Every container in the file that holds values by name, the outer ones first."""
    if not isinstance(content, Mapping) or len(place) > DEEPEST:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    values = {key: value for key, value in named.items() if _is_value(value)}
    if values:
        yield Part(place, "", dict(zip(_bare_names(list(values)), values.values(), strict=True)))
    for key, value in named.items():
        yield from _parts(value, (*place, key))


def _is_value(value: object) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")


def _choose(parts: list[Part], wanted: Mapping[str, tuple[int, ...]], asked: str) -> tuple[Part, list[Part]]:
    """The part that holds all that is wanted, in the most usual place; and the others that do.

    Where none does, the one that holds most, so that an error can say what it lacks.
    """
    behind = [behind for part in parts for behind in _behind_prefixes(part, wanted)]
    whole = [part for part in behind if wanted.keys() <= part.values.keys()]
    fitting = [part for part in whole if all(tuple(part.values[key].shape) == wanted[key] for key in wanted)] or whole
    if not fitting:
        near = [part for part in behind if 2 * len(wanted.keys() & part.values.keys()) >= len(wanted)]
        return max(near or parts, key=lambda part: (len(wanted.keys() & part.values.keys()), -part.rank)), []
    best = min(part.rank for part in fitting)
    chosen, *equal = [part for part in fitting if part.rank == best]
    if equal:
        titles = ", ".join(part.title for part in (chosen, *equal))
        raise UserError(f"{asked} holds several sets of weights that fit ({titles}): save the one to explain alone")
    return chosen, [part for part in fitting if part is not chosen]


def _behind_prefixes(part: Part, wanted: Mapping[str, tuple[int, ...]]) -> list[Part]:
    """The part behind each prefix, up to a dot or none, after which the network's names come."""
    prefixes = {key[: len(key) - len(name)] for key in part.values for name in _endings(key) if name in wanted}
    found = []
    for prefix in sorted(prefixes):
        values = {key.removeprefix(prefix): value for key, value in part.values.items() if key.startswith(prefix)}
        found.append(Part(part.place, prefix, values))
    return found


def _endings(key: str) -> Iterator[str]:
    """'a.b.c' -> 'a.b.c', 'b.c', 'c'."""
    words = key.split(".")
    return (".".join(words[start:]) for start in range(len(words)))


def _rank(word: str) -> int:
    if AVERAGED.search(word):
        return len(PLACES) + 1
    return PLACES.index(word) if word in PLACES else len(PLACES)


def _notes(chosen: Part, others: list[Part], parts: list[Part], path: Path) -> tuple[str, ...]:
    """What a reader should know of how the weights were found."""
    notes = []
    container = next(part for part in parts if part.place == chosen.place)
    taken = tuple(part.prefix for part in (chosen, *others) if part.place == chosen.place)
    left = [key for key in container.values if not key.startswith(taken)]
    if left or chosen.prefix.replace(WRAPPER, ""):
        also = f"; left out: {_first(left)}" if left else ""
        notes.append(f"{chosen.prefix!r} was taken off the names of the weights in {path.name}{also}")
    if others:
        titles = ", ".join(part.title for part in others)
        notes.append(f"{path.name} holds other weights that fit as well ({titles}): {chosen.title} was taken")
    elif any(AVERAGED.search(word) for word in chosen.words):
        notes.append(f"the weights are those of {chosen.title} in {path.name}, an average over the training")
    return tuple(notes)


def _summary(content: object) -> str:
    """What a file holds, in a few words."""
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    return f"{_first([repr(key) for key in content])}" if content else "nothing"


def _clean(part: Part, asked: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, found in part.values.items():
        value = found if isinstance(found, Tensor) else torch.from_numpy(found.astype(found.dtype.newbyteorder("=")))
        if value.layout != torch.strided or value.is_meta:
            kind = "no values" if value.is_meta else f"a tensor of layout {value.layout}"
            raise UserError(f"{asked}: {part.prefix}{key} holds {kind}: save the weights as plain dense tensors")
        state[key] = value.float() if value.is_floating_point() else value
        if value.is_floating_point() and not bool(torch.isfinite(state[key]).all()):
            raise UserError(
                f"{asked}: {part.prefix}{key} holds values that are not finite; train again, or take an earlier file"
            )
    return state
