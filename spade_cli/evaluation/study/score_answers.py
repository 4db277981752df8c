"""answers=PATH -> the paper's table: how often raters chose the patch of the neuron's own class, by condition."""

import json
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError
from spade_cli.evaluation.conditions import DENSE
from spade_cli.evaluation.measures.intervals import compare, estimate
from spade_cli.evaluation.study.build_study import KEY, SIDES

UNDECIDED = ("both", "none")
ROWS = {  # of the table, and which way is better
    "agree": True,
    "disagree": False,
    "undecided": False,
    "agree when decided": True,
}


def score(path: Path, study: Path | None, seed: int = 0) -> dict[str, Any]:
    """Answers of one file, or of every JSON file of a folder, scored by the study's key.

    row -> condition -> {n, mean, low, high, difference, better}. Pairs are one rater's answers to one picture on both
    networks. Raises UserError for files that are none, or of another study.
    """
    files = sorted(file for file in path.glob("*.json") if file.name != KEY) if path.is_dir() else [path]
    if not files:
        raise UserError(f"answers={path} holds no JSON file; give the file that the page saved, or a folder of them")
    key = _read(_key_file(path, study), "tasks")
    raters = [_read(file, "answers") for file in files]
    values: dict[str, dict[str, dict[tuple[int, str], float]]] = {row: {} for row in ROWS}
    for number, (file, rater) in enumerate(zip(files, raters, strict=True)):
        if rater.get("study") != key["study"]:
            raise UserError(
                f"answers={file} is of study {rater.get('study')}, the key of {key['study']}; give its own study="
            )
        for entry in rater["answers"]:
            task = key["tasks"].get(entry.get("task"))
            if task is None or entry.get("answer") not in (*SIDES, *UNDECIDED):
                raise UserError(
                    f"answers={file}: {entry} is no answer of this study; save the file from the page again"
                )
            for row, value in _scored(entry["answer"], task["right_side"]).items():
                values[row].setdefault(task["condition"], {})[(number, task["image"])] = value
    return {
        "study": key["study"],
        "raters": len(files),
        "answers": sum(len(rater["answers"]) for rater in raters),
        "rows": {
            row: _row(found, larger, seed) for (row, larger), found in zip(ROWS.items(), values.values(), strict=True)
        },
    }


def _scored(said: str, right_side: str) -> dict[str, float]:
    found = {
        "agree": float(said == right_side),
        "disagree": float(said in SIDES and said != right_side),
        "undecided": float(said in UNDECIDED),
    }
    return found if said in UNDECIDED else {**found, "agree when decided": float(said == right_side)}


def _row(conditions: dict[str, dict[tuple[int, str], float]], larger: bool, seed: int) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    dense = conditions.get(DENSE, {})
    for condition in sorted(conditions, key=lambda name: name != DENSE):  # dense first
        found = conditions[condition]
        cells[condition] = vars(estimate(list(found.values()), seed)).copy()
        shared = [pair for pair in found if pair in dense]
        if condition != DENSE and shared:
            comparison = compare([found[pair] for pair in shared], [dense[pair] for pair in shared], larger, seed)
            cells[condition] |= {"difference": vars(comparison.difference), "better": comparison.better}
    return cells


def _key_file(path: Path, study: Path | None) -> Path:
    """The study's key: where it was said to be, or beside the answers."""
    if study is not None:
        return study / KEY
    folder = path if path.is_dir() else path.parent
    if not (folder / KEY).is_file():
        raise UserError(
            f"answers={path}: the study's {KEY} is not beside it; add study=FOLDER, the one spade eval wrote"
        )
    return folder / KEY


def _read(file: Path, part: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content[part] or not isinstance(content[part], list | dict):
            raise ValueError(f"it has no {part}")
        return content
    except FileNotFoundError:
        raise UserError(
            f"{file} is not there; give the file that the page saved, and the folder of its study"
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file} cannot be read as JSON with {part} ({error}); save it from the page again") from None


def as_text(scored: dict[str, Any]) -> str:
    """The table as lines: a row a kind of answer, a column a condition."""
    conditions = list(dict.fromkeys(condition for cells in scored["rows"].values() for condition in cells))
    plural = "" if scored["raters"] == 1 else "s"
    lines = [f"{scored['answers']} answers of {scored['raters']} rater{plural}; differences are to dense", ""]
    lines += ["| | " + " | ".join(conditions) + " |", "|---" * (len(conditions) + 1) + "|"]
    for row, cells in scored["rows"].items():
        lines.append(f"| {row} | " + " | ".join(_cell(cells.get(condition)) for condition in conditions) + " |")
    return "\n".join(lines)


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "-"
    shown = _percent(cell, "", "%")
    if "difference" in cell:
        shown += f"; {_percent(cell['difference'], '+', 'points')}"
    return shown


def _percent(found: dict[str, Any], sign: str, unit: str) -> str:
    ends = "" if found["low"] is None else f" [{100 * found['low']:{sign}.1f}, {100 * found['high']:{sign}.1f}]"
    return f"{100 * found['mean']:{sign}.1f} {unit}{ends}"
