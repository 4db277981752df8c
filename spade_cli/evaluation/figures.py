"""Figures of an evaluation: what each method gains over dense, and the insertion and deletion curves."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np

from spade_cli.evaluation.measures.intervals import Cell
from spade_cli.evaluation.measures.metrics import METRICS
from spade_cli.evaluation.records_folder import Record
from spade_cli.evaluation.tables import Table
from spade_cli.files import write_whole

GAINS = ("trojan_auc", "trojan_auc_best", "object_auc", "insertion", "deletion")
# Okabe and Ito's colours, which the colour-blind can tell apart; grey is dense.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B6B00", "#000000")
DENSE_COLOUR = "#777777"
ACROSS = 5  # methods beside one another: the paper's ten in two rows
DPI = 130


def write_figures(table: Table, records: Sequence[Record], folder: Path) -> list[Path]:
    """gains-METRIC.png and curves-KIND.png, those of which there is something to show."""
    drawn = []
    conditions = list(dict.fromkeys(c for by_method in table.values() for cells in by_method.values() for c in cells))
    colours = _colours(conditions)
    for metric in GAINS:
        rows = table.get(metric, {})
        if any(cell.comparison for cells in rows.values() for cell in cells.values()):
            drawn.append(_gains(metric, rows, colours, folder / f"gains-{metric}.png"))
    for kind in ("insertion", "deletion"):
        if curves := _mean_curves(records, kind):
            drawn.append(_curves(kind, curves, colours, folder / f"curves-{kind}.png"))
    return drawn


def _colours(conditions: Sequence[str]) -> dict[str, str]:
    others = [condition for condition in conditions if condition != "dense"]
    return {"dense": DENSE_COLOUR} | {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)}


def _gains(metric: str, rows: Mapping[str, Mapping[str, Cell]], colours: Mapping[str, str], path: Path) -> Path:
    """A row a method, a point a condition: the paired difference to dense and its interval."""
    from matplotlib.figure import Figure

    methods = list(rows)
    found = {
        (condition, method): cell.comparison.difference
        for method, cells in rows.items()
        for condition, cell in cells.items()
        if cell.comparison
    }
    conditions = [name for name in colours if any(condition == name for condition, _ in found)]
    figure = Figure(figsize=(8, 1.4 + len(methods) * (0.22 + 0.11 * len(conditions))), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    scale = 100 if METRICS[metric].share else 1
    for place, condition in enumerate(conditions):
        offset = (place - (len(conditions) - 1) / 2) * 0.7 / max(1, len(conditions))
        for row, method in enumerate(methods):
            gain = found.get((condition, method))
            if gain is None:
                continue
            low, high = (gain.mean if end is None else end for end in (gain.low, gain.high))
            axes.errorbar(
                scale * gain.mean,
                row + offset,
                xerr=[[scale * (gain.mean - low)], [scale * (high - gain.mean)]],
                fmt="o",
                markersize=4,
                linewidth=1.3,
                color=colours[condition],
                label=condition if method == methods[0] else None,
            )
    axes.axvline(0, color=DENSE_COLOUR, linewidth=1)
    axes.set_yticks(range(len(methods)), [method.replace("_", " ") for method in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)  # the first method at the top
    for row in range(len(methods) - 1):
        axes.axhline(row + 0.5, color="#eeeeee", linewidth=0.8, zorder=0)
    better = "right" if METRICS[metric].larger_is_better else "left"
    unit = "percentage points" if METRICS[metric].share else ""
    axes.set_xlabel(f"{metric.replace('_', ' ')}: difference to dense, {unit} (better: {better}), 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=min(4, len(conditions)), frameon=False, fontsize=8)
    write_whole(path, lambda part: figure.savefig(part, format="png"))
    return path


def _mean_curves(records: Sequence[Record], kind: str) -> dict[str, dict[str, np.ndarray]]:
    """method -> condition -> mean over the images that have the curve, (points,)."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for record in records:
        for curve in record.curves:
            if curve.kind == kind:
                found.setdefault(curve.method, {}).setdefault(curve.condition, []).append(curve.points)
    return {
        method: {condition: np.mean(curves, axis=0) for condition, curves in conditions.items()}
        for method, conditions in found.items()
    }


def _curves(kind: str, curves: Mapping[str, Mapping[str, np.ndarray]], colours: Mapping[str, str], path: Path) -> Path:
    """A panel a method, a line a condition."""
    from matplotlib.figure import Figure

    across = min(ACROSS, len(curves))
    down = ceil(len(curves) / across)
    figure = Figure(figsize=(1.2 + 2.4 * across, 1.1 + 2.1 * down), dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, (method, conditions) in zip(panels, curves.items(), strict=False):
        for condition in (name for name in colours if name in conditions):
            points = conditions[condition]
            panel.plot(
                np.arange(len(points)) * 100 / len(points),
                points,
                color=colours[condition],
                linewidth=1.4,
                label=condition if panel is panels[0] else None,
            )
        panel.set_title(method.replace("_", " "), fontsize=9)
        panel.set_ylim(0, 1.02)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(curves) :]:
        panel.set_axis_off()
    done = "kept" if kind == "insertion" else "removed"
    figure.supxlabel(f"most relevant pixels {done}, %", fontsize=9)
    figure.supylabel("confidence of the dense network", fontsize=9)
    figure.legend(loc="outside upper center", ncols=min(5, len(colours)), frameon=False, fontsize=8)
    write_whole(path, lambda part: figure.savefig(part, format="png"))
    return path
