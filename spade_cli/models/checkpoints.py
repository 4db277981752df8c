"""A file of weights -> the state dict in it that fits a network, and its loading. No code in the file is run."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.models.weight_files import read_weight_file

# Where training scripts put the weights, the most usual first.
PLACES = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
AVERAGED = re.compile(r"(^|_)ema(_|$)", re.IGNORECASE)
# Lightning's WeightAveraging keeps the last weights here, and puts their average in their place, state_dict.
LAST_WEIGHTS, ITS_AVERAGE = "current_model_state", "state_dict"
# What wrappers add to names: DataParallel in front of all of them, torch.compile and others anywhere.
WRAPPER = "module."
INNER_WRAPPERS = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # published weights have norm.1 for norm1
DEEPEST = 5  # containers within containers that are searched: a container may hold itself
NAMED = 3  # keys that an error names: enough to recognise the network, few enough for a line


@dataclass(frozen=True)
class Part:
    """The values in one container of a file whose names share a prefix."""

    place: tuple[str, ...]  # the keys that lead to the container
    prefix: str  # "model.", or empty
    values: dict[str, Any]  # by name without the prefix
    beside_last: bool = False  # the file keeps the last weights apart, as Lightning does

    @property
    def words(self) -> tuple[str, ...]:
        """What stands in front of the names, without wrappers."""
        inner = [word for word in self.prefix.split(".") if word]
        return tuple(word for word in (*self.place, *inner) if f"{word}." != WRAPPER)

    @property
    def averaged(self) -> bool:
        """Whether these are averages over the training, by their names."""
        return any(AVERAGED.search(word) for word in self.words) or (self.beside_last and ITS_AVERAGE in self.place)

    @property
    def rank(self) -> int:
        """How unusual this place is for the weights that people mean; 0 is the most usual."""
        return max((_rank(word) for word in self.words), default=0)

    @property
    def title(self) -> str:
        """Its name in a message."""
        return ".".join(self.words) or "the top level"


def read_state_dict(
    path: Path, network: nn.Module, ema: bool | None = None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The file's weights for the network, in float32, by the network's names; and notes on what was assumed.

    ema: whether averages over the training are wanted; None: where the file has them, as timm and Ultralytics load. The
    weights may lie in a container, and their names may share a prefix: both are found by the network's names.
    `load_weights` checks that nothing is missing. Raises UserError for a file without weights, and for one that holds
    several sets which fit equally well.
    """
    asked = f"model.weights={path}"
    content = read_weight_file(path, asked)
    beside_last = isinstance(content, Mapping) and LAST_WEIGHTS in content
    parts = [replace(part, beside_last=beside_last) for part in _find_parts(content)]
    if not parts:
        raise UserError(f"{asked} holds {_describe_content(content)} and no weights by name: save model.state_dict()")
    wanted = {key: tuple(value.shape) for key, value in _bare_state(network).items() if not _is_count(key)}
    chosen, others = _choose_part(parts, wanted, ema, asked)
    return _to_float32(chosen, asked), _write_notes(chosen, others, parts, path)


def load_weights(network: nn.Module, state: Mapping[str, Tensor], asked: str, name: str) -> None:
    """Load the weights into the network. Raises UserError naming the first missing, unexpected and misshapen keys."""
    wanted = _bare_state(network)
    found = [f"{word} {_name_first(keys)}" for word, keys in _find_mismatches(state, wanted).items() if keys]
    if found:
        raise UserError(f"{asked} does not fit {name}: {'; '.join(found)}; choose the model it was saved from")
    named = dict(zip(wanted, network.state_dict(), strict=True))
    network.load_state_dict({named[key]: value for key, value in state.items()}, strict=False)


def _find_mismatches(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, list[str]]:
    pairs = {key: (state[key], wanted[key]) for key in wanted if key in state}
    return {
        "missing": [key for key in wanted if key not in state and not _is_count(key)],
        "unexpected": [key for key in state if key not in wanted],
        "shape": [
            f"{key} {tuple(given.shape)} where {tuple(needed.shape)} is needed"
            for key, (given, needed) in pairs.items()
            if given.shape != needed.shape
        ],
        "kind": [
            f"{key} {given.dtype} where {needed.dtype} is needed"
            for key, (given, needed) in pairs.items()
            if needed.is_floating_point() and not given.is_floating_point()
        ],
    }


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_state(network: nn.Module) -> str:
    """SHA-256 of a network's names and values, for weights that came from no file."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _name_first(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more


def _bare_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's values by their names without wrappers: the network may be wrapped, too."""
    state = network.state_dict()
    return dict(zip(_strip_wrappers(list(state)), state.values(), strict=True))


def _strip_wrappers(keys: list[str]) -> list[str]:
    """The names without what any number of wrappers added, and DenseNet's in their present form."""
    keys = [DENSENET.sub(r"\1\2.", INNER_WRAPPERS.sub("", key)) for key in keys]
    while keys and all(key.startswith(WRAPPER) for key in keys):
        keys = [key.removeprefix(WRAPPER) for key in keys]
    return keys


def _is_count(key: str) -> bool:
    """BatchNorm's count of batches: weights from before torch 0.4.1 lack it, and nothing in eval mode reads it."""
    return key.endswith("num_batches_tracked")


def _find_parts(content: object, place: tuple[str, ...] = ()) -> Iterator[Part]:
    """Every container in the file that holds values by name, outer ones first."""
    if not isinstance(content, Mapping) or len(place) > DEEPEST:
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    values = {key: value for key, value in named.items() if _is_value(value)}
    if values:
        yield Part(place, "", dict(zip(_strip_wrappers(list(values)), values.values(), strict=True)))
    for key, value in named.items():
        yield from _find_parts(value, (*place, key))


def _is_value(value: object) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub")


def _choose_part(
    parts: list[Part], wanted: Mapping[str, tuple[int, ...]], ema: bool | None, asked: str
) -> tuple[Part, list[Part]]:
    """The part in the most usual place that holds all the network's values; and the other parts that hold them all.

    Where no part does, the one that holds most of them, so that an error can name what is missing.
    """
    candidates = [found for part in parts for found in _strip_prefixes(part, wanted)]
    whole = [part for part in candidates if wanted.keys() <= part.values.keys()]
    fitting = [part for part in whole if all(tuple(part.values[key].shape) == wanted[key] for key in wanted)] or whole
    if not fitting:
        near = [part for part in candidates if 2 * len(wanted.keys() & part.values.keys()) >= len(wanted)]
        return max(near or parts, key=lambda part: (len(wanted.keys() & part.values.keys()), -part.rank)), []
    of_kind = _keep_kind(fitting, ema, asked)
    best = min(part.rank for part in of_kind)
    chosen, *equal = [part for part in of_kind if part.rank == best]
    if equal:
        titles = ", ".join(part.title for part in (chosen, *equal))
        raise UserError(f"{asked} holds several sets of weights that fit ({titles}): save the one to explain alone")
    return chosen, [part for part in fitting if part is not chosen]


def _keep_kind(fitting: list[Part], ema: bool | None, asked: str) -> list[Part]:
    """The averages, or those that are none, as wanted. Raises UserError where the file has no such weights."""
    kept = [part for part in fitting if part.averaged == (ema is not False)]
    if ema is not None and not kept:
        what = "an average over the training" if ema else "the last weights"
        titles = ", ".join(part.title for part in fitting)
        raise UserError(
            f"model.ema={str(ema).lower()}: {asked} holds no weights that are {what} ({titles}); leave it out"
        )
    return kept or fitting


def _strip_prefixes(part: Part, wanted: Mapping[str, tuple[int, ...]]) -> list[Part]:
    """For each prefix that stands in front of a name of the network's, the values with that prefix, without it."""
    prefixes = {key[: len(key) - len(name)] for key in part.values for name in _endings(key) if name in wanted}
    found = []
    for prefix in sorted(prefixes):
        values = {key.removeprefix(prefix): value for key, value in part.values.items() if key.startswith(prefix)}
        found.append(replace(part, prefix=prefix, values=values))
    return found


def _endings(key: str) -> Iterator[str]:
    """'a.b.c' -> 'a.b.c', 'b.c', 'c'."""
    words = key.split(".")
    return (".".join(words[start:]) for start in range(len(words)))


def _rank(word: str) -> int:
    return PLACES.index(word) if word in PLACES else len(PLACES)


def _write_notes(chosen: Part, others: list[Part], parts: list[Part], path: Path) -> tuple[str, ...]:
    """What a reader should know about the choice of the weights."""
    notes = []
    container = next(part for part in parts if part.place == chosen.place)
    taken = tuple(part.prefix for part in (chosen, *others) if part.place == chosen.place)
    left = [key for key in container.values if not key.startswith(taken)]
    if left or chosen.prefix.replace(WRAPPER, ""):
        also = f"; left out: {_name_first(left)}" if left else ""
        notes.append(f"{chosen.prefix!r} was taken off the names of the weights in {path.name}{also}")
    if others:
        titles = ", ".join(part.title for part in others)
        other_kind = any(part.averaged != chosen.averaged for part in others)
        average = ", an average over the training" if chosen.averaged else ""
        way = f"; model.ema={str(not chosen.averaged).lower()} takes the other kind" if other_kind else ""
        notes.append(
            f"{path.name} holds other weights that fit as well ({titles}): {chosen.title} was taken{average}{way}"
        )
    elif chosen.averaged:
        notes.append(f"the weights are those of {chosen.title} in {path.name}, an average over the training")
    return tuple(notes)


def _describe_content(content: object) -> str:
    """What a file holds, in a few words."""
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    return f"{_name_first([repr(key) for key in content])}" if content else "nothing"


def _to_float32(part: Part, asked: str) -> dict[str, Tensor]:
    """The part's values as tensors, the floating ones in float32. Raises UserError for values that cannot be used."""
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
