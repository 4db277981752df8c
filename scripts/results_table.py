"""Records of an evaluation -> a table of docs/results.md: every column compared with a column of your choice.

    python scripts/results_table.py FOLDER --metric trojan_auc \\
        --columns "dense plain" "one plain:dense plain" dense four:dense --group "gradient methods:saliency,deeplift"

It reads the images that are finished, so it serves an evaluation that was stopped, too. A cell is the mean over the
images; in brackets, of a column CONDITION:REFERENCE, the paired difference with its 95 % bootstrap interval. The last
rows are averages over methods, then the controls.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from spade_cli.evaluation.means_table import AVERAGE, gather_values
from spade_cli.evaluation.measures.controls import CONTROLS
from spade_cli.evaluation.measures.intervals import fill_cell
from spade_cli.evaluation.measures.metrics import METRICS, Metric
from spade_cli.evaluation.records_folder import RECORDS, Record

ByCondition = Mapping[str, Mapping[int, float]]  # condition -> image's index -> value


def main() -> None:
    """Print one table for each metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of spade eval")
    parser.add_argument("--metric", nargs="+", default=["trojan_auc"], choices=list(METRICS))
    parser.add_argument("--columns", nargs="+", required=True, help="CONDITION or CONDITION:REFERENCE")
    parser.add_argument("--group", action="append", default=[], help="NAME:METHOD,METHOD,...: one more average")
    asked = parser.parse_args()
    columns = [(name, reference) for name, _, reference in (column.partition(":") for column in asked.columns)]
    groups = {name: methods.split(",") for name, _, methods in (group.partition(":") for group in asked.group)}
    values = gather_values(read_records(asked.folder))
    if missing := [metric for metric in asked.metric if metric not in values]:
        sys.exit(f"{asked.folder} has no {', '.join(missing)}; there are {', '.join(values)}")
    for metric in asked.metric:
        print(f"\n{metric}\n\n" + "\n".join(make_table(values[metric], METRICS[metric], columns, groups)))


def read_records(folder: Path) -> list[Record]:
    """Those of the finished images, in order."""
    files = sorted((folder / RECORDS).glob("*.json"))
    if not files:
        sys.exit(f"{folder} holds no records; give a folder that spade eval wrote")
    return [Record.from_json(json.loads(file.read_text(encoding="utf-8"))) for file in files]


def make_table(
    rows: Mapping[str, ByCondition],
    metric: Metric,
    columns: Sequence[tuple[str, str]],
    groups: Mapping[str, Sequence[str]],
) -> list[str]:
    """Lines of markdown; columns: (condition, what it is compared with, or nothing), groups: name -> methods."""
    methods = {name: found for name, found in rows.items() if name != AVERAGE and name not in CONTROLS}
    shown = {name.replace("_", " "): found for name, found in methods.items()}
    for name, chosen in groups.items():
        shown[f"**{name}**"] = average_methods([methods[method] for method in chosen])
    if len(methods) > 1:
        shown["**average**"] = average_methods(list(methods.values()))
    shown |= {f"{name} (control)": found for name, found in rows.items() if name in CONTROLS}
    lines = ["| method | n | " + " | ".join(name for name, _ in columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, found in shown.items():
        cells = [make_cell(found, condition, reference, metric) for condition, reference in columns]
        count = max((len(found.get(condition, {})) for condition, _ in columns), default=0)
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |")
    return lines


def average_methods(methods: Sequence[ByCondition]) -> dict[str, dict[int, float]]:
    """Mean over the methods, of the images that have all of them in every condition."""
    conditions = dict.fromkeys(condition for found in methods for condition in found)
    whole = set.intersection(*(set(found.get(condition, {})) for found in methods for condition in conditions))
    return {
        condition: {image: sum(found[condition][image] for found in methods) / len(methods) for image in sorted(whole)}
        for condition in conditions
    }


def make_cell(found: ByCondition, condition: str, reference: str, metric: Metric) -> str:
    """`97.3 (+0.2 [-0.3, +0.8])`; empty where nothing was measured."""
    own = found.get(condition, {})
    if not own:
        return ""
    scale, digits = (100, 1) if metric.share else (1, 3)
    cell = fill_cell(own, found.get(reference, {}), metric.larger_is_better, seed=0)
    mean = f"{scale * cell.value.mean:.{digits}f}"
    if cell.comparison is None:
        return mean
    gain = cell.comparison.difference
    low, high = (gain.mean if end is None else end for end in (gain.low, gain.high))
    interval = ", ".join(f"{scale * end:+.{digits}f}" for end in (low, high))
    return f"{mean} ({scale * gain.mean:+.{digits}f} [{interval}])"


if __name__ == "__main__":
    main()
