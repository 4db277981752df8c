"""How the jobs of a sweep are laid out: one setting along the axis, the combinations of the others as lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spade_cli.batch.table import JobSettings

SPARSITY = "pruner.sparsity"
TRACE = "trace"  # the only value on the axis where each combination has a line of its own


@dataclass(frozen=True)
class Axes:
    """along: the setting on the axis. values: its values, in order. lines: name -> value -> number of the job."""

    along: str
    values: tuple[Any, ...]
    lines: dict[str, dict[Any, int]]
    networks: bool = False  # whether lines differ in the dense network itself, or in what is asked of it


def arrange_jobs(jobs: Mapping[int, JobSettings]) -> Axes:
    """Sparsity is on the axis where it is varied, or else the setting that is varied last.

    The target never is: each has its line, since maps of the dense network differ as well.

    >>> arrange_jobs({0: {"pruner": "obs", "pruner.sparsity": 0.9}, 1: {"pruner": "obs", "pruner.sparsity": 0.5}})
    Axes(along='pruner.sparsity', values=(0.5, 0.9), lines={'obs': {0.9: 0, 0.5: 1}}, networks=False)
    """
    names = list(next(iter(jobs.values())))
    others = [name for name in names if name != "target"]
    along = SPARSITY if SPARSITY in names or not names else (others or [TRACE])[-1]
    missing = TRACE if along == TRACE else None
    lines: dict[str, dict[Any, int]] = {}
    for number, chosen in jobs.items():
        label = ", ".join(_name_setting(key, value) for key, value in chosen.items() if key != along)
        lines.setdefault(label, {})[chosen.get(along, missing)] = number
    values = list(dict.fromkeys(chosen.get(along, missing) for chosen in jobs.values()))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    networks = any(key.split(".")[0] in ("model", "interpreter", "target", "seed") for key in names)
    return Axes(along, tuple(values), lines, networks)


def _name_setting(key: str, value: Any) -> str:
    return str(value) if "." not in key and isinstance(value, str) else f"{key.rpartition('.')[2]} {value}"
