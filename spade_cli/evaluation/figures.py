"""Figures of an evaluation: what each method gains over dense, and the insertion and deletion curves."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spade_cli.evaluation.conditions import DENSE
from spade_cli.evaluation.means_table import Table
from spade_cli.evaluation.measures.controls import CONTROLS
from spade_cli.evaluation.measures.intervals import Cell, Estimate
from spade_cli.evaluation.measures.metrics import METRICS
from spade_cli.evaluation.records_folder import Record
from spade_cli.files import write_whole

if TYPE_CHECKING:  # matplotlib is slow to load
    from matplotlib.figure import Figure

GAINS = ("trojan_auc", "trojan_auc_best", "object_auc", "insertion", "deletion")
# Okabe and Ito's colours: colour-blind readers can tell them apart. Grey is dense.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B6B00", "#000000")
DENSE_COLOUR = "#777777"
ACROSS = 5  # methods beside one another: the paper's ten in two rows
DPI = 130


def write_figures(table: Table, records: Sequence[Record], folder: Path) -> list[Path]:
    """gains-METRIC.png and curves-KIND.png, where there is something to show."""
    conditions = list(dict.fromkeys(c for by_method in table.values() for cells in by_method.values() for c in cells))
    others = [condition for condition in conditions if condition != DENSE]
    colours = {DENSE: DENSE_COLOUR} | {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(others)}
    figures: dict[str, Figure] = {}
    for metric in GAINS:
        gains = _find_gains(table.get(metric, {}))
        if any(gains.values()):
            figures[f"gains-{metric}.png"] = _draw_gains(metric, gains, colours)
    for kind in ("insertion", "deletion"):
        if curves := _average_curves(records, kind):
            figures[f"curves-{kind}.png"] = _draw_curves(kind, curves, colours)
    for name, figure in figures.items():
        write_whole(folder / name, partial(figure.savefig, format="png"))
    return [folder / name for name in figures]


def _find_gains(rows: Mapping[str, Mapping[str, Cell]]) -> dict[str, dict[str, Estimate]]:
    """method -> condition -> the paired difference to dense."""
    return {
        method: {name: cell.comparison.difference for name, cell in cells.items() if cell.comparison}
        for method, cells in rows.items()
        if method not in CONTROLS
    }


def _draw_gains(metric: str, gains: Mapping[str, Mapping[str, Estimate]], colours: Mapping[str, str]) -> "Figure":
    """A row for each method, a point for each condition: the paired difference to dense and its interval."""
    from matplotlib.figure import Figure

    methods = list(gains)
    conditions = [name for name in colours if any(name in found for found in gains.values())]
    figure = Figure(figsize=(8, 1.4 + len(methods) * (0.22 + 0.11 * len(conditions))), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    scale = 100 if METRICS[metric].share else 1
    for place, condition in enumerate(conditions):
        offset = (place - (len(conditions) - 1) / 2) * 0.7 / max(1, len(conditions))
        draw = partial(axes.errorbar, fmt="o", markersize=4, linewidth=1.3, color=colours[condition])
        for row, method in enumerate(methods):
            if condition not in gains[method]:
                continue
            gain = gains[method][condition]
            low, high = (gain.mean if end is None else end for end in (gain.low, gain.high))
            ends = [[scale * (gain.mean - low)], [scale * (high - gain.mean)]]
            draw(scale * gain.mean, row + offset, xerr=ends, label=condition if row == 0 else None)
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
    return figure


def _average_curves(records: Sequence[Record], kind: str) -> dict[str, dict[str, NDArray[np.float64]]]:
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


def _draw_curves(
    kind: str, curves: Mapping[str, Mapping[str, NDArray[np.float64]]], colours: Mapping[str, str]
) -> "Figure":
    """A panel for each method, a line for each condition."""
    from matplotlib.figure import Figure

    across = min(ACROSS, len(curves))
    down = ceil(len(curves) / across)
    figure = Figure(figsize=(1.2 + 2.4 * across, 1.1 + 2.1 * down), dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flatten()
    for panel, (method, conditions) in zip(panels, curves.items(), strict=False):
        for condition in (name for name in colours if name in conditions):
            points = conditions[condition]
            percent = np.arange(len(points)) * 100 / len(points)
            label = condition if panel is panels[0] else None
            panel.plot(percent, points, color=colours[condition], linewidth=1.4, label=label)
        panel.set_title(method.replace("_", " "), fontsize=9)
        panel.set_ylim(0, 1.02)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(curves) :]:
        panel.set_axis_off()
    done = "kept" if kind == "insertion" else "removed"
    figure.supxlabel(f"most relevant pixels {done}, %", fontsize=9)
    figure.supylabel("confidence of the dense network", fontsize=9)
    figure.legend(loc="outside upper center", ncols=min(5, len(colours)), frameon=False, fontsize=8)
    return figure
