"""The tables of docs/results.md: what a column is compared with, averages over complete images, stopped evaluations."""

import json
import sys

import pytest
import results_table

from spade_cli.evaluation.records_folder import Record

# image -> condition -> value of saliency, of deeplift
SEEN = {
    0: {"dense": (0.9, 0.7), "plain": (0.5, 0.4), "one": (0.6, 0.6)},
    1: {"dense": (0.8, 0.6), "plain": (0.3, 0.2), "one": (0.5, 0.5)},
    2: {"dense": (0.7, None), "plain": (0.1, 0.3), "one": (0.4, 0.1)},  # deeplift failed on the dense network
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "records").mkdir()
    for image, conditions in SEEN.items():
        record = Record(image, f"{image}.png")
        for condition, values in conditions.items():
            for method, value in zip(("saliency", "deeplift"), values, strict=True):
                record.add(condition, method, {} if value is None else {"trojan_auc": value})
        record.add("dense", "edges", {"trojan_auc": 0.55})
        (tmp_path / "records" / f"{image:06}.json").write_text(json.dumps(record.to_json()))
    return tmp_path


def test_a_column_is_compared_with_the_one_it_names(folder, capsys, monkeypatch):
    words = ["results_table.py", str(folder), "--columns", "dense", "plain", "one:plain", "--group", "first:saliency"]
    monkeypatch.setattr(sys, "argv", words)
    results_table.main()
    lines = capsys.readouterr().out.splitlines()
    cells = {
        row[0]: row[1:] for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:] if line)
    }
    assert list(cells) == ["method", "---", "saliency", "deeplift", "**first**", "**average**", "edges (control)"]
    mean = (0.1 + 0.2 + 0.3) / 3
    assert cells["saliency"] == ["3", "80.0", "30.0", f"50.0 (+{100 * mean:.1f} [+10.0, +30.0])"]
    assert cells["**first**"] == cells["saliency"]
    # The third image has no deeplift on the dense network, so that no column averages over it.
    assert cells["**average**"] == ["2", "75.0", "35.0", "55.0 (+20.0 [+15.0, +25.0])"]
    assert cells["edges (control)"] == ["3", "55.0", "", ""]


def test_a_folder_without_records_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="holds no records"):
        results_table.read_records(tmp_path)


def test_a_metric_that_was_not_measured_is_refused(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["results_table.py", str(folder), "--metric", "srg", "--columns", "dense"])
    with pytest.raises(SystemExit, match="has no srg; there are trojan_auc"):
        results_table.main()
