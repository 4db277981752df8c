"""Records -> results.csv, table.json and table.md: means with intervals, and paired differences to dense."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spade_cli.evaluation.conditions import DENSE
from spade_cli.evaluation.measuring import Record
from spade_cli.evaluation.metrics import METRICS, Metric
from spade_cli.evaluation.statistics import Comparison, Estimate, compare, estimate

AVERAGE = "average"  # over the methods, image by image
BEST_OF_TWO = ("trojan_auc_signed", "trojan_auc_absolute")

# metric -> method ("" for measures of a network) -> condition -> image's index -> value
Values = dict[str, dict[str, dict[str, dict[int, float]]]]


def gather(records: Sequence[Record]) -> Values:
    """Every value by metric, method, condition and image, in the order of the records; the averages added."""
    values: Values = {}
    for record in records:
        for condition, method, metric, value in record.rows:
            values.setdefault(metric, {}).setdefault(method, {}).setdefault(condition, {})[record.index] = value
    if BEST_OF_TWO[0] in values:
        values["trojan_auc_best"] = _best_of_two(values)
    for by_method in values.values():
        if len(by_method) > 1:
            by_method[AVERAGE] = _average(list(by_method.values()))
    return {metric: values[metric] for metric in METRICS if metric in values}


def _average(methods: Sequence[Mapping[str, Mapping[int, float]]]) -> dict[str, dict[int, float]]:
    """Mean over the methods of each image that has them all: none counts for less where another one failed."""
    averages: dict[str, dict[int, float]] = {}
    for condition in methods[0]:
        found = [method.get(condition, {}) for method in methods]
        whole = [image for image in found[0] if all(image in one for one in found)]
        averages[condition] = {image: sum(one[image] for one in found) / len(found) for image in whole}
    return averages


def _best_of_two(values: Values) -> dict[str, dict[str, dict[int, float]]]:
    """The paper's choice, per condition and method, by the higher mean over these images."""
    best: dict[str, dict[str, dict[int, float]]] = {}
    for method, conditions in values[BEST_OF_TWO[0]].items():
        for condition in conditions:
            both = [values[name][method][condition] for name in BEST_OF_TWO]
            best.setdefault(method, {})[condition] = max(both, key=lambda one: sum(one.values()) / len(one))
    return best


def summarise(values: Values, seed: int) -> dict[str, Any]:
    """metric -> method -> condition -> {n, mean, low, high, difference: {...}, better}."""
    return {
        metric: {
            method: {
                condition: _cell(METRICS[metric], found, conditions.get(DENSE), condition, seed)
                for condition, found in conditions.items()
                if found
            }
            for method, conditions in by_method.items()
        }
        for metric, by_method in values.items()
    }


def _cell(
    metric: Metric, found: Mapping[int, float], dense: Mapping[int, float] | None, condition: str, seed: int
) -> dict[str, Any]:
    cell: dict[str, Any] = asdict(estimate(list(found.values()), seed))
    shared = [image for image in found if dense is not None and image in dense]
    if condition != DENSE and shared and dense is not None and metric.larger_is_better is not None:
        pairs = ([found[image] for image in shared], [dense[image] for image in shared])
        comparison = compare(*pairs, metric.larger_is_better, seed)
        cell |= {"difference": asdict(comparison.difference), "better": comparison.better}
    return cell


def write_csv(records: Sequence[Record], path: Path) -> None:
    """One row an image x condition x method x metric."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "condition", "method", "metric", "value"])
        for record in records:
            writer.writerows((record.image, *row[:3], repr(row[3])) for row in record.rows)


def write_curves(records: Sequence[Record], path: Path) -> None:
    """Every insertion and deletion curve: image, condition, method, kind, then the confidence at 0 %, 1 %, ..."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        points = max((len(curve[3]) for record in records for curve in record.curves), default=0)
        writer.writerow(["image", "condition", "method", "kind", *(f"{i}%" for i in range(points))])
        for record in records:
            writer.writerows((record.image, *curve[:3], *curve[3]) for curve in record.curves)


def failures(records: Sequence[Record]) -> list[dict[str, str]]:
    """What was not measured, and why; an empty condition is the whole image."""
    return [
        {"image": record.image, "condition": condition, "method": method, "why": why}
        for record in records
        for condition, method, why in record.failures
    ]


def markdown(summary: Mapping[str, Any], missing: Sequence[Mapping[str, str]], records: int, heading: str) -> str:
    """table.md: for each measure the means, then the differences to dense."""
    lines = [f"# {heading}", "", _counted(missing, records), ""]
    lines += [
        "Means over images with 95 % bootstrap intervals; differences to dense are paired, image by image, and "
        "'better' is the share of images that improved.",
        "",
    ]
    of_maps = [name for name in summary if METRICS[name].of_maps]
    of_networks = [name for name in summary if not METRICS[name].of_maps]
    for name in of_maps:
        lines += _section(name, summary[name], METRICS[name])
    for name in of_networks:
        lines += _section(name, {"": summary[name][""]}, METRICS[name])
    if missing:
        lines += ["## Not measured", "", "| image | condition | method | why |", "|---|---|---|---|"]
        lines += [
            f"| {_plain(m['image'])} | {m['condition'] or 'all'} | {m['method'] or 'all'} | {_plain(m['why'])} |"
            for m in missing
        ]
        lines += [""]
    return "\n".join(lines)


def _counted(missing: Sequence[Mapping[str, str]], records: int) -> str:
    whole = len({entry["image"] for entry in missing if not entry["condition"]})
    parts = len(missing) - sum(not entry["condition"] for entry in missing)
    return (
        f"{records} images; {whole} left out, and {parts} maps or networks of the others, each listed at the end with "
        "its reason; none is averaged in."
    )


def _section(name: str, rows: Mapping[str, Mapping[str, Any]], metric: Metric) -> list[str]:
    conditions = list(dict.fromkeys(condition for cells in rows.values() for condition in cells))
    direction = {True: "higher is better", False: "lower is better", None: "no direction"}[metric.larger_is_better]
    unit = "%, " if metric.share else ""
    lines = [f"## {name}", "", f"{metric.title} ({unit}{direction})", ""]
    lines += _table(rows, conditions, lambda cell: _shown(cell, metric), counts=True)
    compared = [
        condition for condition in conditions if any("difference" in row.get(condition, {}) for row in rows.values())
    ]
    if compared:
        lines += ["Difference to dense:", "", *_table(rows, compared, lambda cell: _gain(cell, metric), counts=False)]
    return lines


def _table(rows: Mapping[str, Mapping[str, Any]], conditions: Sequence[str], show: Any, counts: bool) -> list[str]:
    lines = ["| method | " + ("n | " if counts else "") + " | ".join(map(_plain, conditions)) + " |"]
    lines += ["|---" * (len(conditions) + 1 + counts) + "|"]
    for method, cells in rows.items():
        shown = [show(cells[condition]) if condition in cells else "-" for condition in conditions]
        many = sorted({cells[condition]["n"] for condition in conditions if condition in cells})
        number = [" to ".join(map(str, dict.fromkeys((many[0], many[-1]))))] if counts and many else []
        lines += ["| " + " | ".join([method.replace("_", " ") or "(the network)", *number, *shown]) + " |"]
    return [*lines, ""]


def _shown(cell: Mapping[str, Any], metric: Metric) -> str:
    return _figure(cell, metric, "")


def _gain(cell: Mapping[str, Any], metric: Metric) -> str:
    if "difference" not in cell:
        return "-"
    return f"{_figure(cell['difference'], metric, '+')}, {100 * cell['better']:.0f} % better"


def _figure(found: Mapping[str, Any], metric: Metric, sign: str) -> str:
    scale, digits = (100, 1) if metric.share else (1, 3)
    mean = f"{scale * found['mean']:{sign}.{digits}f}"
    if found["low"] is None:
        return mean
    return f"{mean} [{scale * found['low']:{sign}.{digits}f}, {scale * found['high']:{sign}.{digits}f}]"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """As JSON that any reader takes."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


__all__ = [
    "AVERAGE",
    "Comparison",
    "Estimate",
    "failures",
    "gather",
    "markdown",
    "summarise",
    "write_csv",
    "write_curves",
    "write_json",
]
