"""Tables: what is averaged with what, what a difference is taken over, and the numbers as they are read."""

import csv
import json

import pytest

from spade_cli.evaluation.figures import write_figures
from spade_cli.evaluation.means_table import (
    fill_table,
    find_missing,
    gather_values,
    table_to_json,
    table_to_markdown,
    write_csv,
    write_curves,
)
from spade_cli.evaluation.measures.metrics import METRICS
from spade_cli.evaluation.records_folder import Curve, Failure, Record


def records():
    """Three images; deeplift failed on the trace of the last."""
    found = []
    for index, (a, b, c, d) in enumerate([(0.1, 0.2, 0.5, 0.6), (0.2, 0.3, 0.3, 0.4), (0.3, 0.9, 0.4, 0)]):
        record = Record(index, f"image {index}|x")
        record.add("dense", "saliency", {"trojan_auc": a, "deletion": a})
        record.add("dense", "deeplift", {"trojan_auc": b})
        record.add("trace", "saliency", {"trojan_auc": c, "deletion": c})
        record.add("trace", "", {"kl": a, "logit_change": -a})
        record.add("dense", "", {"kl": 0.0, "logit_change": 0.0})
        if index < 2:
            record.add("trace", "deeplift", {"trojan_auc": d})
        else:
            record.failures.append(Failure("trace", "deeplift", "no | rule"))
        found.append(record)
    return [*found, Record(3, "bad", failures=[Failure("", "", "it is no picture")])]


def test_controls_stand_below_the_average_and_are_not_part_of_it():
    record = Record(0, "image")
    for method, value in (("edges", 0.9), ("saliency", 0.1), ("noise", 0.5), ("deeplift", 0.3)):
        record.add("dense", method, {"trojan_auc": value})
    found = gather_values([record])["trojan_auc"]
    assert list(found) == ["saliency", "deeplift", "average", "edges", "noise"]
    assert found["average"]["dense"][0] == pytest.approx(0.2)
    only = Record(0, "image")
    for method in ("saliency", "noise"):
        only.add("dense", method, {"trojan_auc": 0.5})
    assert list(gather_values([only])["trojan_auc"]) == ["saliency", "noise"], "one method has no average"


def test_means_differences_and_averages():
    found = table_to_json(fill_table(gather_values(records()), seed=0))
    saliency = found["trojan_auc"]["saliency"]
    assert saliency["dense"]["n"] == 3 and saliency["dense"]["mean"] == pytest.approx(0.2)
    assert saliency["trace"]["difference"]["mean"] == pytest.approx(0.2) and saliency["trace"]["better"] == 1
    assert "difference" not in saliency["dense"]
    assert found["deletion"]["saliency"]["trace"]["better"] == 0  # lower is better
    deeplift = found["trojan_auc"]["deeplift"]["trace"]
    assert (deeplift["n"], deeplift["difference"]["n"]) == (2, 2)
    average = found["trojan_auc"]["average"]  # of the images that have both methods
    assert average["dense"]["n"] == 3 and average["trace"]["n"] == 2
    assert average["trace"]["mean"] == pytest.approx((0.55 + 0.35) / 2)
    assert average["trace"]["difference"]["mean"] == pytest.approx((0.55 - 0.15 + 0.35 - 0.25) / 2)
    assert "average" not in found["deletion"] and "difference" not in found["logit_change"][""]["trace"]


def test_the_better_of_two_is_chosen_by_the_mean_over_the_images():
    found = []
    for index, (signed, absolute) in enumerate([(0.9, 0.5), (0.5, 0.6)]):
        record = Record(index, str(index))
        record.add("dense", "lrp", {"trojan_auc_signed": signed, "trojan_auc_absolute": absolute})
        record.add("trace", "lrp", {"trojan_auc_signed": absolute, "trojan_auc_absolute": signed})
        found.append(record)
    best = gather_values(found)["trojan_auc_best"]["lrp"]
    assert best["dense"] == {0: 0.9, 1: 0.5} == best["trace"]
    assert "BEST OF TWO" in METRICS["trojan_auc_best"].title


def test_what_is_not_finite_is_a_failure():
    record = Record(0, "a")
    record.add("dense", "", {"kl": float("nan"), "agreement": 1.0})
    assert record.rows == [("dense", "", "agreement", 1.0)] and record.failures == [("dense", "", "kl is not finite")]


def test_the_table_says_what_it_leaves_out():
    text = table_to_markdown(fill_table(gather_values(records()), 0), find_missing(records()), 4, "net on data")
    assert "4 images; 1 of them left out, and 1 maps or networks of the others" in text
    assert "| bad | all | all | it is no picture |" in text
    assert "| image 2\\|x | trace | deeplift | no \\| rule |" in text
    assert "| saliency | 3 | 20.0 [" in text and "| deeplift | 2 to 3 |" in text
    assert "+20.0 [" in text and "100 % better" in text
    for line in text.splitlines():  # every row has as many cells as its heading
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") >= 3
    assert "all of them measured" in table_to_markdown({}, [], 2, "x")


def test_files_hold_what_was_measured(tmp_path):
    found = records()
    found[0].curves.append(Curve("dense", "saliency", "deletion", [1.0, 0.5]))
    write_csv(found, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        read = list(csv.reader(file))
    assert read[0] == ["image", "condition", "method", "metric", "value"]
    assert read[1] == ["image 0|x", "dense", "saliency", "trojan_auc", "0.1"]
    assert len(read) == 1 + sum(len(record.rows) for record in found)
    write_curves(found, tmp_path / "curves.csv")
    assert (tmp_path / "curves.csv").read_text().splitlines()[1].endswith("deletion,1.0,0.5")
    drawn = write_figures(fill_table(gather_values(found), 0), found, tmp_path)
    assert {path.name for path in drawn} == {"gains-trojan_auc.png", "gains-deletion.png", "curves-deletion.png"}
    assert all(path.stat().st_size > 5000 for path in drawn)
    json.dumps(table_to_json(fill_table(gather_values(found), 0)), allow_nan=False)
