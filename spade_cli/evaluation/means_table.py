"""Records -> results.csv, table.json and table.md: means with intervals, and paired differences to dense."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spade_cli.evaluation.conditions import DENSE
from spade_cli.evaluation.measures.controls import CONTROLS
from spade_cli.evaluation.measures.intervals import Cell, Estimate, fill_cell
from spade_cli.evaluation.measures.metrics import METRICS, Metric
from spade_cli.evaluation.records_folder import Record

AVERAGE = "average"  # over the methods, image by image
BEST_OF_TWO = ("trojan_auc_signed", "trojan_auc_absolute")

# metric -> method ("" for measures of a network) -> condition -> image's index -> value
Values = dict[str, dict[str, dict[str, dict[int, float]]]]
Table = Mapping[str, Mapping[str, Mapping[str, Cell]]]  # metric -> method -> condition -> its cell


@dataclass(frozen=True)
class Missing:
    """What was not measured, and why; an empty condition is the whole image, an empty method all of them."""

    image: str
    condition: str
    method: str
    why: str


def gather_values(records: Sequence[Record]) -> Values:
    """Every value by metric, method, condition and image, in the order of the records; averages, then the controls."""
    values: Values = {}
    for record in records:
        for row in record.rows:
            values.setdefault(row.metric, {}).setdefault(row.method, {}).setdefault(row.condition, {})[record.index] = (
                row.value
            )
    if BEST_OF_TWO[0] in values:
        values["trojan_auc_best"] = _best_of_two(values)
    for by_method in values.values():
        controls = {name: by_method.pop(name) for name in CONTROLS if name in by_method}
        if len(by_method) > 1:
            by_method[AVERAGE] = _average(list(by_method.values()))
        by_method |= controls
    return {metric: values[metric] for metric in METRICS if metric in values}


def _average(methods: Sequence[Mapping[str, Mapping[int, float]]]) -> dict[str, dict[int, float]]:
    """Mean over the methods, of each image that has them all: an image without one would weigh the others more."""
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


def fill_table(values: Values, seed: int) -> Table:
    """Every value averaged over its images, and compared with dense."""
    return {
        metric: {
            method: {
                condition: fill_cell(
                    found,
                    {} if condition == DENSE else conditions.get(DENSE, {}),
                    METRICS[metric].larger_is_better,
                    seed,
                )
                for condition, found in conditions.items()
                if found
            }
            for method, conditions in by_method.items()
        }
        for metric, by_method in values.items()
    }


def table_to_json(table: Table) -> dict[str, Any]:
    """metric -> method -> condition -> {n, mean, low, high, difference: {...}, better}."""
    return {
        metric: {
            method: {condition: cell.to_json() for condition, cell in cells.items()}
            for method, cells in by_method.items()
        }
        for metric, by_method in table.items()
    }


def write_csv(records: Sequence[Record], path: Path) -> None:
    """A row for each image, condition, method and metric."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "condition", "method", "metric", "value"])
        for record in records:
            writer.writerows((record.image, *row[:3], repr(row.value)) for row in record.rows)


def write_curves(records: Sequence[Record], path: Path) -> None:
    """Every insertion and deletion curve: image, condition, method, kind, then the confidence at 0 %, 1 %, ..."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        points = max((len(curve.points) for record in records for curve in record.curves), default=0)
        writer.writerow(["image", "condition", "method", "kind", *(f"{i}%" for i in range(points))])
        for record in records:
            writer.writerows((record.image, *curve[:3], *curve.points) for curve in record.curves)


def find_missing(records: Sequence[Record]) -> list[Missing]:
    """Everything that was not measured, image by image."""
    return [Missing(record.image, *failure) for record in records for failure in record.failures]


def table_to_markdown(table: Table, missing: Sequence[Missing], images: int, heading: str) -> str:
    """table.md: for each measure of maps the means and the differences to dense, the measures of networks together."""
    lines = [f"# {heading}", "", _count_missing(missing, images), ""]
    lines += [
        "Means over images with 95 % bootstrap intervals; differences to dense are paired, image by image, and "
        "'better' is the share of images that improved.",
        "",
    ]
    of_networks = {}
    for name, rows in table.items():
        metric = METRICS[name]
        if not metric.of_maps:
            of_networks[f"{metric.title}{_unit(metric)}"] = (metric, rows[""])
            continue
        lines += [f"## {name}", "", f"{metric.title}{_unit(metric)}", ""]
        lines += _means_and_gains(
            {method.replace("_", " "): (metric, cells) for method, cells in rows.items()}, "method"
        )
    if of_networks:
        lines += ["## The networks", "", *_means_and_gains(of_networks, "measure")]
    if missing:
        lines += ["## Not measured", "", "| image | condition | method | why |", "|---|---|---|---|"]
        for one in missing:
            cells = [one.image, one.condition or "all", one.method or "all", one.why]
            lines.append(_row(*map(_escape_cell, cells)))
        lines.append("")
    return "\n".join(lines)


def _count_missing(missing: Sequence[Missing], images: int) -> str:
    whole = sum(not one.condition for one in missing)
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


def _means_and_gains(rows: Mapping[str, tuple[Metric, Mapping[str, Cell]]], what: str) -> list[str]:
    """The means, and below them the differences to dense where there are any; rows: name -> metric, cells."""
    conditions = list(dict.fromkeys(condition for _, cells in rows.values() for condition in cells))
    lines = [_row(what, "n", *map(_escape_cell, conditions)), "|---" * (len(conditions) + 2) + "|"]
    for name, (metric, cells) in rows.items():
        means = [_estimate(cells[c].value, metric, "") if c in cells else "-" for c in conditions]
        lines.append(_row(name, _counts(cells), *means))
    lines.append("")
    gains = {
        name: {
            c: f"{_estimate(found.difference, metric, '+')}, {100 * found.better:.0f} % better"
            for c, cell in cells.items()
            if (found := cell.comparison)
        }
        for name, (metric, cells) in rows.items()
    }
    gains = {name: found for name, found in gains.items() if found}
    if gains:
        others = [c for c in conditions if any(c in found for found in gains.values())]
        lines += ["Difference to dense:", "", _row(what, *map(_escape_cell, others)), "|---" * (len(others) + 1) + "|"]
        lines += [_row(name, *(found.get(c, "-") for c in others)) for name, found in gains.items()]
        lines.append("")
    return lines


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _counts(cells: Mapping[str, Cell]) -> str:
    """How many images a row is of; from fewest to most where conditions differ."""
    counts = sorted({cell.value.n for cell in cells.values()})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _estimate(found: Estimate, metric: Metric, sign: str) -> str:
    scale, digits = (100, 1) if metric.share else (1, 3)
    mean = f"{scale * found.mean:{sign}.{digits}f}"
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{scale * found.low:{sign}.{digits}f}, {scale * found.high:{sign}.{digits}f}]"


def _escape_cell(text: str) -> str:
    return text.replace("|", "\\|")


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Standard JSON: no NaN."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
