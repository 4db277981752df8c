"""spade sweep: every combination once, from one calibration an image, each result what a run of its own would be."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from many import QUICK, differing, pictures, table
from PIL import Image
from scenes import write_scenes

from spade_cli.batch import sweep_image
from spade_cli.batch.axes import arrange_jobs
from spade_cli.cli import main
from spade_cli.cli.sweep import split_values

VARIED = ("pruner=sparsegpt,magnitude", "pruner.sparsity=0.9,0.5")
FIXED = tuple(word for word in QUICK if not word.startswith("pruner"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_combination_is_a_run_of_its_own_from_one_calibration(here, monkeypatch):
    picture = next(pictures(here / "pictures", 1).rglob("*.png"))
    passes = []
    real = sweep_image.calibrate
    monkeypatch.setattr(sweep_image, "calibrate", lambda *a, **k: passes.append(a[2]) or real(*a, **k))
    assert main(["sweep", f"image={picture}", *FIXED, *VARIED, "schedule=uniform", "out=out"]) == 0
    assert passes == [["conv1", "conv2", "head"]]
    rows = table("out")
    assert [(row["options"]["pruner"], row["options"]["pruner.sparsity"]) for row in rows] == [
        *(("sparsegpt", 0.9), ("sparsegpt", 0.5), ("magnitude", 0.9), ("magnitude", 0.5))
    ]
    words = ["pruner=sparsegpt", "pruner.sparsity=0.5", "schedule=uniform"]
    assert main(["run", f"image={picture}", *FIXED, *words, "out=one"]) == 0
    run, result = next(Path("one").glob("*/*")), Path("out") / rows[1]["folder"]
    # Shared statistics and dense maps change nothing.
    assert differing(run, result) == {"summary.json", "run.log", "config.yaml", "report.html"}
    with Path("out/sweep.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["pruner.sparsity"] for line in lines] == ["0.9", "0.5"] * 2 and lines[0]["kl"] != lines[1]["kl"]
    assert Image.open("out/curves.png").width > 500
    assert Image.open(next(Path("out").glob("images/0000/*/sweep.png"))).width >= 900


def test_stopped_and_gone_on_with(here, capsys):
    pictures(here / "pictures", 2)
    (here / "pictures" / "bad.png").write_text("no picture")
    words = ["sweep", "images=pictures", *FIXED, *VARIED, "out=out"]
    assert main(words) == 1
    assert "4 of 12 results failed" in capsys.readouterr().err.splitlines()[-1]
    whole = table("out")
    lines = Path("out/index.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("out/index.jsonl").write_text("".join(lines[:5] + lines[6:9]), encoding="utf-8")
    kept = {path: path.stat().st_mtime_ns for path in Path("out").rglob("summary.json")}
    assert main(["sweep", "resume=out"]) == 1
    assert table("out") == whole, "found again by what was written"
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("summary.json")} == kept
    assert main([*words, "pruner.damping=0.1"]) == 2 and "pruner.damping" in capsys.readouterr().err
    other = [word.replace("0.9,0.5", "0.9,0.6") for word in words]
    assert main(other) == 2 and "of another sweep" in capsys.readouterr().err


def test_masks_measure_quality(here):
    write_scenes(here / "scenes", 3)
    assert main(["sweep", "images=scenes", *FIXED, "pruner=sparsegpt", "pruner.sparsity=0.5,0.9", "out=out"]) == 0
    found = [row["quality"]["saliency"] for row in table("out") if "quality" in row]
    assert found and all(0 <= quality[network] <= 1 for quality in found for network in ("dense", "trace"))
    row = next(row for row in table("out") if "quality" in row)
    raw = np.load(Path("out") / row["folder"] / "saliency" / "saliency_trace.npy")
    labels = json.loads(Path("scenes/labels.json").read_text())["pictures"][Path(row["image"]).name]
    mask = np.array(Image.open(Path("scenes") / (labels["mask"] or labels["symbol_mask"]))) > 0
    inside, outside = (np.abs(raw).sum(0)[part] for part in (mask, ~mask))
    pairs = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
    assert row["quality"]["saliency"]["trace"] == pytest.approx(pairs, abs=1e-6)


def test_words_are_split_as_hydra_reads_them():
    flags, fixed, varied = split_values(
        ["image=a,b.png", "seed=1,2", "interpreter.methods=[a,b]", "model.weights=é.pth,b.pth", "out=x,y"]
    )
    assert flags == [] and fixed == ["images='a,b.png'", "interpreter.methods=[a,b]", "out='x,y'"]
    assert varied == {"seed": ["seed=1", "seed=2"], "model.weights": ["model.weights='é.pth'", "model.weights='b.pth'"]}


def test_axes():
    jobs = {0: {"pruner.sparsity": 0.9, "pruner": "obs"}, 1: {"pruner.sparsity": 0.5, "pruner": "obs"}}
    axes = arrange_jobs(jobs | {2: {"pruner.sparsity": 0.5, "pruner": "forward"}})
    assert axes.values == (0.5, 0.9) and axes.lines == {"obs": {0.9: 0, 0.5: 1}, "forward": {0.5: 2}}
    assert arrange_jobs({0: {"seed": 1}, 1: {"seed": 0}}).along == "seed"
    assert arrange_jobs({0: {}}).lines == {"": {None: 0}}
    asked = arrange_jobs({0: {"target": "cat"}, 1: {"target": "cat:dog"}})  # each has maps of the dense network, too
    assert asked.lines == {"cat": {"trace": 0}, "cat:dog": {"trace": 1}} and asked.networks
    assert arrange_jobs({0: {"pruner": "obs", "target": "cat"}}).along == "pruner"


@pytest.mark.parametrize(
    "words, said",
    [
        (["-m", "image=x"], "leave out -m"),
        (["image=x", "seed=range(5000)"], "5000 combinations"),
        (["image=nowhere.png", "seed=1,2"], "is not there"),
        (["image=x", "pruner=obs,nonsense"], "nonsense"),
        (["image=x", "pruner.sparsity=0.5,2"], "0 to 1"),
    ],
)
def test_mistakes_are_one_line(here, capsys, words, said):
    assert main(["sweep", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not list(here.iterdir())
