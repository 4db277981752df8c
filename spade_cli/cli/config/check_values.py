"""Checks of single values: what was asked, what was found, what to do."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from spade_cli.cache import default_folder
from spade_cli.errors import UserError
from spade_cli.files import expand_path

MISSING = "???"  # OmegaConf's word for what must be given
SHOWN = 80  # characters of a value in an error
MAX_WHOLE = 2**31 - 1  # torch counts no further in places


def number(key: str, value: Any, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> float:
    """A finite number within bounds; `above`: more than `low`."""
    if not is_number(value) or not low <= value <= high or (above and value == low):
        raise UserError(f"{key}={show_value(value)} is not {_bounds(low, high, above)}; give one")
    return float(value)


def show_value(value: Any) -> str:
    """A value as YAML has it, cut off where nobody would read on."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def is_number(value: Any) -> bool:
    """Whether it is a finite number; `true` is none, and a whole number may be too long for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _bounds(low: float, high: float, above: bool) -> str:
    if above:
        return f"a number above {low:g}" + (f" and at most {high:g}" if high < math.inf else "")
    return f"a number from {low:g} to {high:g}" if high < math.inf else f"a number of at least {low:g}"


def share_inside(key: str, value: Any) -> float:
    """A share that is neither nothing nor all: above 0 and below 1."""
    if not is_number(value) or not 0 < value < 1:
        percent = f", such as {value / 100:g}" if is_number(value) and 1 < value < 100 else ""
        raise UserError(f"{key}={show_value(value)} is not a share between 0 and 1; give one{percent}")
    return float(value)


def one_of(key: str, value: Any, known: Sequence[str]) -> str:
    """One of these words."""
    if not isinstance(value, str) or value not in known:
        near = get_close_matches(str(value), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{key}={show_value(value)} is unknown; {hint}there are {', '.join(known)}")
    return value


def level(value: Any) -> float | None:
    """`pruner.sparsity`: a share, or null for the schedule's own."""
    if is_number(value) and 1 < value <= 100:
        raise UserError(
            f"pruner.sparsity={value} is not a number from 0 to 1; {value} % is pruner.sparsity={value / 100:g}"
        )
    return None if value is None else number("pruner.sparsity", value, 0, 1)


def whole(key: str, value: Any, low: int, high: int | None = None) -> int:
    """A whole number within bounds."""
    top = MAX_WHOLE if high is None else high
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= top:
        known = high is not None or (isinstance(value, int) and value > top)
        bounds = f"from {low} to {top}" if known else f"of at least {low}"
        raise UserError(f"{key}={show_value(value)} is not a whole number {bounds}; give one")
    return value


def switch(key: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UserError(f"{key}={value} is neither true nor false; give one of them")
    return value


def text(key: str, value: Any, example: str) -> str:
    """A text that was given."""
    if value in (None, "", MISSING):
        raise UserError(f"{key} is not given; add {key}={example}")
    if isinstance(value, bool | dict | list):
        raise UserError(f"{key}={value} is not a text; write {key}={example}")
    if isinstance(value, float):  # as a file says it without quotes: 1.10 would have become 1.1
        raise UserError(f"{key}={value} is a number; write it in quotes, such as {key}: '{value}'")
    return str(value)


def path(key: str, value: Any, example: str) -> Path:
    """A path that was given, and that a file can have."""
    written = text(key, value, example)
    try:
        return expand_path(written)
    except UserError as error:
        raise UserError(f"{key}={error}") from None


def output_folder(key: str, value: Any) -> Path:
    """A folder to write into; it is made later, but that it can be made is seen now."""
    output = path(key, value, "FOLDER")
    nearest = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise UserError(f"{key}={output}: {nearest} is a file; give a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{key}={output}: {nearest} cannot be written to; give another folder")
    return output


def cache_folder(key: str, value: Any) -> Path | None:
    """A folder to keep visualizations in; of auto the user's own; None for null, and where there is no home."""
    if value in (None, "null"):
        return None
    return default_folder() if value == "auto" else output_folder(key, value)


def section(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A group of the configuration, which a user may have taken out with `~key`."""
    found = config.get(key)
    if not isinstance(found, dict):
        raise UserError(
            f"{key} is missing from the configuration; leave its default in place, or choose with {key}=..."
        )
    return dict(found)


def shares(key: str, value: Any) -> dict[str, float]:
    """{PATTERN: SHARE} as a mapping from a YAML file, or as text from the command line."""
    if isinstance(value, str):
        entries = value.strip().removeprefix("{").removesuffix("}")
        pairs = [entry.rpartition(":") for entry in entries.split(",") if entry.strip()]
        value = {pattern.strip().strip("'\""): _as_number(share.strip()) for pattern, _, share in pairs}
    if value is None:
        return {}
    if not isinstance(value, dict) or "" in value or None in value:
        raise UserError(
            f"{key} is not of the form {{PATTERN: SHARE}}; write for example '{key}={{layer4.*: 0.95, fc: 0}}'"
        )
    return {str(pattern): number(f"{key}: the share of {pattern}", share, 0, 1) for pattern, share in value.items()}


def _as_number(written: str) -> float | str:
    try:
        return float(written)
    except ValueError:
        return written


def device_name(value: Any) -> str:
    """A device as people name it; whether it is there is seen later."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", str(value)):
        raise UserError(f"device={value} is unknown; there are auto, cpu, cuda, cuda:N and mps")
    return str(value)
