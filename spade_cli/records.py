"""Frozen dataclasses as JSON and back, with their types checked; and the records of pruning, which need no torch."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


@dataclass(frozen=True)
class LayerRecord:
    """What was asked of a layer and what it got."""

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int  # 0 where they are those of another layer, which counts them
    asked: float  # share of the layer's units to remove; 0 where it was left dense
    achieved: float  # share of its weights that are exactly zero
    error: float | None = None  # ||W'X - WX||^2 / ||WX||^2 over the samples; None where it was not pruned
    damping: float | None = None  # relative to the mean diagonal, after escalation
    observations: int | None = None  # columns of X
    left: str | None = None  # why it was left dense


@dataclass(frozen=True)
class Fidelity:
    """How a pruned network's answers compare with the dense one's."""

    same_prediction: bool  # the same answer on the image: top-1, or the set of labels above 0.5
    dense: float  # the question's probability on the image (`Question.probability`)
    pruned: float
    kl: float | None  # KL(dense || pruned) in nats, mean over the samples; None where they were not asked


@dataclass(frozen=True)
class Trial:
    """One setting that was tried, and how faithful the network was with it."""

    shares: Mapping[str, float]  # of each block that was pruned, from the output on
    fidelity: Fidelity
    faithful: bool


def read_record(kind: type[Record], content: object) -> Record:
    """A dataclass from what `json.loads` made of its `dataclasses.asdict`; keys that it does not have are left out.

    Raises ValueError, which names the key, for one that is missing without a default or has a value of another type.

    >>> read_record(Fidelity, {"same_prediction": True, "dense": 0.9, "pruned": 0.8, "kl": "none"})
    Traceback (most recent call last):
    ValueError: kl is 'none'
    """
    record: Record = _reader(cast(Hashable, kind))(content, "")
    return record


Reader = Callable[[Any, str], Any]  # (what JSON holds, its name) -> the same as a value of a type


@cache  # types are looked at once: a list of runs reads thousands of records
def _reader(kind: Any) -> Reader:
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass_reader(kind)
    if get_origin(kind) is UnionType and NoneType in get_args(kind):
        (inner,) = (_reader(one) for one in get_args(kind) if one is not NoneType)
        return lambda value, name: None if value is None else inner(value, name)
    if get_origin(kind) is tuple:
        return _tuple_reader(*get_args(kind))
    if get_origin(kind) in (dict, Mapping):
        of_value = _reader(get_args(kind)[1])
        return lambda value, name: {
            key: of_value(one, f"{name}.{key}") for key, one in _check(value, dict, name).items()
        }
    if kind is float:
        return _read_float
    return lambda value, name: _check(value, object if kind is Any else kind, name)


def _dataclass_reader(kind: type[Any]) -> Reader:
    hints = get_type_hints(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}

    def read(value: Any, name: str) -> Any:
        prefix = f"{name}." if name else ""
        missing = [key for key in readers if key in needed and key not in _check(value, dict, name or "it")]
        if missing:
            raise ValueError(f"{prefix}{missing[0]} is missing")
        return kind(**{key: one(value[key], f"{prefix}{key}") for key, one in readers.items() if key in value})

    return read


def _tuple_reader(*kinds: Any) -> Reader:
    readers = [_reader(kind) for kind in kinds if kind is not ...]

    def read(value: Any, name: str) -> Any:
        ones = _check(value, list, name)
        if kinds[-1] is not ... and len(ones) != len(kinds):
            raise ValueError(f"{name} has {len(ones)} values, not {len(kinds)}")
        each = readers * len(ones) if kinds[-1] is ... else readers
        return tuple(one(inner, f"{name}.{i}") for i, (one, inner) in enumerate(zip(each, ones, strict=True)))

    return read


def _read_float(value: Any, name: str) -> float:
    try:
        return float(value if isinstance(value, float) else _check(value, int, name))
    except OverflowError:
        raise ValueError(f"{name} is too large a number") from None


def _check(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name} is {repr(value)[:40]}")
    return value
