"""curves.png of a sweep: fidelity against sparsity, and the maps' quality where there are masks."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from spade_cli.batch.axes import Axes, arrange_jobs
from spade_cli.batch.table import JobSettings, Row
from spade_cli.evaluation.figures import COLOURS, DENSE_COLOUR
from spade_cli.evaluation.measures.intervals import estimate

DPI = 130
ACROSS = 4  # panels beside one another


@dataclass
class Panel:
    """One measure: values by (line, value of the axis), one an image."""

    title: str
    values: dict[tuple[str, Any], list[float]]
    dense: list[float]  # the same of the dense network, where it is not 1 or 0 by definition


def collect_panels(rows: Iterable[Row], axes: Axes) -> list[Panel]:
    """One panel for each measure, from the table's rows."""
    place = {job: (line, value) for line, jobs in axes.lines.items() for value, job in jobs.items()}
    panels: dict[str, Panel] = {}

    def add(title: str, where: tuple[str, Any], value: float, dense: float | None = None) -> None:
        panel = panels.setdefault(title, Panel(title, {}, []))
        panel.values.setdefault(where, []).append(float(value))
        if dense is not None:
            panel.dense.append(float(dense))

    for row in rows:
        if row.result is None or row.item.job is None:
            continue
        found, where = row.result, place[row.item.job]
        add("same prediction", where, found.same_prediction)
        add("agreement on the samples", where, found.agreement)
        add("KL(dense || trace), nats", where, found.kl)
        target = [network.target_probability for network in (found.prediction.trace, found.prediction.dense)]
        add("probability of the explained class", where, *target)
        for method, aucs in (row.quality or {}).items():
            if "trace" in aucs:
                add(f"AUC against the mask: {method.replace('_', ' ')}", where, aucs["trace"], aucs.get("dense"))
    return list(panels.values())


def draw_curves(rows: Callable[[], Iterable[Row]], jobs: Mapping[int, JobSettings], path: Path, images: int) -> None:
    """A panel for each measure, a curve for each line of the sweep; bands are 95 % bootstrap intervals of the mean."""
    from matplotlib.figure import Figure

    axes = arrange_jobs(jobs)
    panels = collect_panels(rows(), axes)
    if not panels:
        return
    across = min(ACROSS, len(panels))
    down = ceil(len(panels) / across)
    figure = Figure(figsize=(3.4 * across, 2.9 * down + 0.6), dpi=DPI, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for panel, plot in zip(panels, grid, strict=False):
        _draw_panel(plot, panel, axes)
    for plot in grid[len(panels) :]:
        plot.set_axis_off()
    handles, labels = grid[len(panels) - 1].get_legend_handles_labels()
    if any(labels):
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    figure.suptitle(f"{images} image{'s' * (images != 1)}, means" + " and 95 % intervals" * (images > 1), fontsize=10)
    figure.savefig(path, format="png")


def _draw_panel(plot: Any, panel: Panel, axes: Axes) -> None:
    places = range(len(axes.values))  # in equal steps: 0.9, 0.95, 0.99 would touch on a scale
    for i, line in enumerate(axes.lines):
        drawn = [(x, value) for x, value in zip(places, axes.values, strict=True) if panel.values.get((line, value))]
        estimates = [estimate(panel.values[line, value]) for _, value in drawn]
        xs, means = [x for x, _ in drawn], [one.mean for one in estimates]
        low = [one.mean if one.low is None else one.low for one in estimates]
        high = [one.mean if one.high is None else one.high for one in estimates]
        colour = COLOURS[i % len(COLOURS)]
        plot.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
        plot.plot(xs, means, "o-", color=colour, label=line or "trace", markersize=3.5, linewidth=1.4)
    if panel.dense:
        mean = sum(panel.dense) / len(panel.dense)
        plot.axhline(mean, color=DENSE_COLOUR, linestyle="--", linewidth=1.1, label="dense")
    plot.set_title(panel.title, fontsize=9)
    plot.set_xticks(places, [str(value) for value in axes.values])
    plot.set_xlabel(axes.along, fontsize=8)
    plot.tick_params(labelsize=8)
    plot.spines[["top", "right"]].set_visible(False)
    if "KL" not in panel.title:
        plot.set_ylim(-0.03, 1.03)
