"""answers=PATH -> the paper's table: how often raters chose the patch of the neuron's own class, by condition."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError
from spade_cli.evaluation.conditions import DENSE
from spade_cli.evaluation.measures.intervals import Cell, Estimate, fill_cell
from spade_cli.evaluation.study.build_study import KEY, SIDES, Key
from spade_cli.records import read_record

UNDECIDED = ("both", "none")
ROWS = {  # of the table, and which way is better
    "agree": True,
    "disagree": False,
    "undecided": False,
    "agree when decided": True,
}


@dataclass(frozen=True)
class Scores:
    """What the raters answered. rows: of ROWS -> condition -> its cell."""

    study: str
    raters: int
    answers: int
    rows: Mapping[str, Mapping[str, Cell]]

    def to_json(self) -> dict[str, Any]:
        """As `spade eval --json answers=...` prints it."""
        rows = {row: {name: cell.to_json() for name, cell in cells.items()} for row, cells in self.rows.items()}
        return {"study": self.study, "raters": self.raters, "answers": self.answers, "rows": rows}


def score(path: Path, study: Path | None, seed: int = 0) -> Scores:
    """Answers of one file, or of every JSON file of a folder, scored by the study's key.

    Pairs are one rater's answers to one picture on both networks. Raises UserError for files that are none, or of
    another study.
    """
    files = sorted(file for file in path.glob("*.json") if file.name != KEY) if path.is_dir() else [path]
    if not files:
        raise UserError(f"answers={path} holds no JSON file; give the file that the page saved, or a folder of them")
    key = _read_key(_key_file(path, study))
    raters = [_read(file, "answers") for file in files]
    values: dict[str, dict[str, dict[tuple[int, str], float]]] = {row: {} for row in ROWS}
    for number, (file, rater) in enumerate(zip(files, raters, strict=True)):
        if rater.get("study") != key.study:
            raise UserError(
                f"answers={file} is of study {rater.get('study')}, the key of {key.study}; give its own study="
            )
        for entry in rater["answers"]:
            task = key.tasks.get(entry.get("task"))
            if task is None or entry.get("answer") not in (*SIDES, *UNDECIDED):
                raise UserError(
                    f"answers={file}: {entry} is no answer of this study; save the file from the page again"
                )
            for row, value in _score_one(entry["answer"], task.right_side).items():
                values[row].setdefault(task.condition, {})[number, task.image] = value
    rows = {row: _fill_row(values[row], larger_is_better, seed) for row, larger_is_better in ROWS.items()}
    return Scores(key.study, len(files), sum(len(rater["answers"]) for rater in raters), rows)


def _score_one(answer: str, right_side: str) -> dict[str, float]:
    found = {
        "agree": float(answer == right_side),
        "disagree": float(answer in SIDES and answer != right_side),
        "undecided": float(answer in UNDECIDED),
    }
    return found if answer in UNDECIDED else {**found, "agree when decided": float(answer == right_side)}


def _fill_row(
    conditions: Mapping[str, Mapping[tuple[int, str], float]], larger_is_better: bool, seed: int
) -> dict[str, Cell]:
    dense = conditions.get(DENSE, {})
    return {
        name: fill_cell(conditions[name], {} if name == DENSE else dense, larger_is_better, seed)
        for name in sorted(conditions, key=lambda name: name != DENSE)  # dense first
    }


def _key_file(path: Path, study: Path | None) -> Path:
    """The study's key: in the folder that study= names, or beside the answers."""
    if study is not None:
        return study / KEY
    folder = path if path.is_dir() else path.parent
    if not (folder / KEY).is_file():
        raise UserError(
            f"answers={path}: the study's {KEY} is not beside it; add study=FOLDER, the one spade eval wrote"
        )
    return folder / KEY


def _read_key(file: Path) -> Key:
    try:
        return read_record(Key, _read(file, "tasks"))
    except ValueError as error:
        raise UserError(
            f"{file} is no key of a study ({error}); give the folder that spade eval study= wrote"
        ) from None


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


def scores_to_text(scores: Scores) -> str:
    """The table as lines: a row a kind of answer, a column a condition."""
    conditions = list(dict.fromkeys(condition for cells in scores.rows.values() for condition in cells))
    plural = "" if scores.raters == 1 else "s"
    lines = [f"{scores.answers} answers of {scores.raters} rater{plural}; differences are to dense", ""]
    lines += ["| | " + " | ".join(conditions) + " |", "|---" * (len(conditions) + 1) + "|"]
    for row, cells in scores.rows.items():
        lines.append(f"| {row} | " + " | ".join(_say_cell(cells.get(condition)) for condition in conditions) + " |")
    return "\n".join(lines)


def _say_cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    value = _percent(cell.value, "", "%")
    return f"{value}; {_percent(cell.comparison.difference, '+', 'points')}" if cell.comparison else value


def _percent(found: Estimate, sign: str, unit: str) -> str:
    ends = ""
    if found.low is not None and found.high is not None:
        ends = f" [{100 * found.low:{sign}.1f}, {100 * found.high:{sign}.1f}]"
    return f"{100 * found.mean:{sign}.1f} {unit}{ends}"
