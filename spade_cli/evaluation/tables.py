"""Records -> results.csv, table.json and table.md: means with intervals, and paired differences to dense."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spade_cli.evaluation.conditions import DENSE
from spade_cli.evaluation.measure_image import Record
from spade_cli.evaluation.measures.intervals import compare, estimate
from spade_cli.evaluation.measures.metrics import METRICS, Metric

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


def markdown(summary: Mapping[str, Any], missing: Sequence[Mapping[str, str]], images: int, heading: str) -> str:
    """table.md: for each measure of maps the means and the differences to dense, the measures of networks together."""
    lines = [f"# {heading}", "", _counted(missing, images), ""]
    lines += [
        "Means over images with 95 % bootstrap intervals; differences to dense are paired, image by image, and "
        "'better' is the share of images that improved.",
        "",
    ]
    of_networks = {}
    for name, rows in summary.items():
        metric = METRICS[name]
        if not metric.of_maps:
            of_networks[f"{metric.title}{_unit(metric)}"] = (metric, rows[""])
            continue
        lines += [f"## {name}", "", f"{metric.title}{_unit(metric)}", ""]
        lines += _both_tables({method.replace("_", " "): (metric, cells) for method, cells in rows.items()}, "method")
    if of_networks:
        lines += ["## The networks", "", *_both_tables(of_networks, "measure")]
    if missing:
        lines += ["## Not measured", "", "| image | condition | method | why |", "|---|---|---|---|"]
        for entry in missing:
            where = [entry["condition"] or "all", entry["method"] or "all"]
            lines.append("| " + " | ".join(map(_plain, [entry["image"], *where, entry["why"]])) + " |")
        lines.append("")
    return "\n".join(lines)


def _counted(missing: Sequence[Mapping[str, str]], images: int) -> str:
    whole = sum(not entry["condition"] for entry in missing)
    return (
        f"{images} images; {whole} of them left out, and {len(missing) - whole} maps or networks of the others, each "
        "listed at the end with its reason; none is averaged in."
        if missing
        else f"{images} images, all of them measured."
    )


def _unit(metric: Metric) -> str:
    direction = {True: "higher is better", False: "lower is better", None: ""}[metric.larger_is_better]
    notes = [note for note in ("%" if metric.share else "", direction) if note]
    return f" ({', '.join(notes)})" if notes else ""


Rows = Mapping[str, tuple[Metric, Mapping[str, Any]]]  # name -> metric, cells by condition


def _both_tables(rows: Rows, what: str) -> list[str]:
    """The means, and below them the differences to dense where there are any."""
    conditions = list(dict.fromkeys(condition for _, cells in rows.values() for condition in cells))
    compared = {
        name: (metric, {c: cell for c, cell in cells.items() if "difference" in cell})
        for name, (metric, cells) in rows.items()
    }
    compared = {name: row for name, row in compared.items() if row[1]}
    lines = [f"| {what} | n | " + " | ".join(map(_plain, conditions)) + " |", "|---" * (len(conditions) + 2) + "|"]
    for name, (metric, cells) in rows.items():
        shown = [_figure(cells[c], metric, "") if c in cells else "-" for c in conditions]
        lines.append("| " + " | ".join([name, _many(cells), *shown]) + " |")
    lines.append("")
    if compared:
        others = [c for c in conditions if any(c in cells for _, cells in compared.values())]
        lines += ["Difference to dense:", "", f"| {what} | " + " | ".join(map(_plain, others)) + " |"]
        lines.append("|---" * (len(others) + 1) + "|")
        for name, (metric, cells) in compared.items():
            lines.append(
                "| " + " | ".join([name, *(_gain(cells[c], metric) if c in cells else "-" for c in others)]) + " |"
            )
        lines.append("")
    return lines


def _many(cells: Mapping[str, Any]) -> str:
    """How many images a row is of; from fewest to most where conditions differ."""
    counts = sorted({cell["n"] for cell in cells.values()})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _gain(cell: Mapping[str, Any], metric: Metric) -> str:
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
