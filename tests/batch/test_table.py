"""The table of a batch: every kind of row comes back as it was written, and a damaged line is named."""

import csv
import json
from pathlib import Path

import pytest

from spade_cli.batch.table import Item, Result, Row, Table, format_csv, name_columns
from spade_cli.errors import UserError
from spade_cli.report.summary import Prediction, Predictions

PREDICTIONS = Predictions(Prediction(1, "cat", 0.75, 0.75), Prediction(2, "dög", 0.5, 0.25))
RESULT = Result("cat", PREDICTIONS, False, 0.5, 0.125, 0.9, ("a flag", "another"), 1.5)
ROWS = (
    Row(Item(0, "a,b.png"), "images/0000/0", result=RESULT),
    Row(Item(1, "é.png", 0, {"pruner.sparsity": 0.9, "target": "x"}), "f", "sweep.png was not drawn", RESULT),
    Row(Item(2, "c.png", 0, {"seed": 1}), "f", result=RESULT, quality={"lrp": {"dense": 0.5, "trace": 1.0}}),
    Row.of_failure(Item(3, "d.png"), "image=d.png: is not an image"),
    Row.of_failure(Item(4, "e.png"), ZeroDivisionError("x\ny")),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.item.image)
def test_a_row_comes_back_from_its_line(row: Row) -> None:
    assert Row.from_json(json.loads(json.dumps(row.to_json()))) == row
    (cells,) = csv.reader([format_csv(row.to_json(), list(row.item.settings))])
    assert len(cells) == len(name_columns(list(row.item.settings)))


def test_lines_have_the_keys_that_are_promised() -> None:
    assert list(ROWS[0].to_json())[:6] == ["number", "image", "folder", "status", "reason", "target"]
    assert list(ROWS[2].to_json())[1:5] == ["image", "job", "options", "folder"]
    assert list(ROWS[2].to_json())[-2:] == ["seconds", "quality"]
    assert ROWS[3].to_json()["reason"] == "is not an image" and "traceback" not in ROWS[3].to_json()
    assert ROWS[4].to_json()["reason"] == "ZeroDivisionError: x y" and "x\ny" in ROWS[4].to_json()["traceback"]
    cells = dict(zip(name_columns([]), next(csv.reader([format_csv(ROWS[0].to_json(), [])])), strict=True))
    assert cells["trace_label"] == "dög" and cells["flags"] == "a flag; another" and cells["same_prediction"] == "False"


def test_rows_are_sorted_and_half_a_line_goes(tmp_path: Path) -> None:
    with Table(tmp_path, "index.csv", 5) as table:
        for number in (4, 0, 3):
            table.append(Row(Item(number, f"{number}.png"), "f", result=RESULT))
    whole = (tmp_path / "index.jsonl").read_bytes()
    (tmp_path / "index.jsonl").write_bytes(whole + b'{"number": 1, "im')
    again = Table(tmp_path, "index.csv", 5)
    again.load(retry=False)
    assert [row.item.number for row in again.rows()] == [0, 3, 4] and not again.has(Item(1, "1.png"))
    with again:
        again.append(Row.of_failure(Item(1, "1.png"), "why"))
    assert (again.count, again.failures) == (4, 1) and again.is_complete(1) and not again.is_complete(2)
    retried = Table(tmp_path, "index.csv", 5)
    retried.load(retry=True)
    assert not retried.has(Item(1, "1.png")) and retried.count == 3


def test_opening_mends_the_csv_file_and_what_is_in_order_is_not_written_again(tmp_path: Path) -> None:
    varied = ("seed", "pruner.sparsity", "target")
    with Table(tmp_path, "index.csv", 5, varied, jobs=1) as table:
        for row in reversed(ROWS):
            table.append(row)
    jsonl, cells = tmp_path / "index.jsonl", tmp_path / "index.csv"
    lines, whole = jsonl.read_bytes(), cells.read_bytes()
    assert [Row.from_json(json.loads(line)) for line in lines.splitlines()] == list(ROWS)
    assert len(list(csv.reader(whole.decode().splitlines()))) == 6
    cells.write_bytes(whole[:-20])  # a kill cut its last line
    again = Table(tmp_path, "index.csv", 5, varied, jobs=1)
    again.load(retry=False)
    with again:
        assert cells.read_bytes() == whole and jsonl.read_bytes() == lines
        written = jsonl.stat().st_ino
    assert jsonl.stat().st_ino == written, "a million lines are not sorted twice for nothing"
    retried = Table(tmp_path, "index.csv", 5, varied, jobs=1)
    retried.load(retry=True)
    with retried:
        retried.append(Row.of_failure(ROWS[3].item, "once more"))
    assert [row.reason for row in retried.rows()][3:] == ["once more"]


@pytest.mark.parametrize(
    "damage",
    [
        {"number": 7},
        {"number": "x"},
        {"status": "half"},
        {"prediction": []},
        {"kl": None},
        {"flags": "none"},
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, damage: dict[str, object]) -> None:
    (tmp_path / "index.jsonl").write_text(json.dumps({**ROWS[0].to_json(), **damage}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"index\.jsonl cannot be read .* delete it"):
        Table(tmp_path, "index.csv", 5).load(retry=False)
