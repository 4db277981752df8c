"""spade eval: what it writes, what it leaves out and says so, and that a stop at any moment changes no number."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scenes import MODEL, QUICK, write_scenes

from spade_cli.cli import main
from spade_cli.evaluation import data as datasets
from spade_cli.evaluation.case import open_case
from spade_cli.evaluation.conditions import dense_condition
from spade_cli.evaluation.evaluation_plan import EvaluationPlan, EvaluationRequest
from spade_cli.models import ModelSource, load_model
from spade_cli.pruning import find_layers
from spade_cli.run.trace_settings import TraceSettings

CONDITIONS = "conditions=[dense, sparsegpt@0.5, all: sparsegpt schedule=uniform, control: sparsegpt image=other]"
COMMAND = ("eval", "data=my scenes", *MODEL, *QUICK, CONDITIONS)
RESULTS = ("results.csv", "curves.csv", "table.md")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "my scenes")
    return tmp_path


def rows(out):
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_for_each_image_condition_method_and_metric(folder, capsys):
    assert main([*COMMAND, "out=a b", "aggregation=best"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "a b\n" and "min left" in captured.err
    found = rows(Path("a b"))
    keys = [(row["image"], row["condition"], row["method"], row["metric"]) for row in found]
    assert len(set(keys)) == len(keys)
    for image, what in (("é 0.png", "object"), ("é 1.png", "trojan")):
        of_maps = {key[3] for key in keys if key[0] == image and key[2] == "saliency" and key[1] == "all"}
        against = {f"{what}_{measure}" for measure in ("auc", "mass", "rank", "pointing")}
        more = (
            {"insertion", "deletion", "srg", "single_deletion"}
            if what == "object"
            else {"trojan_auc_signed", "trojan_auc_absolute"}
        )
        assert of_maps == against | more
        for control in ("edges", "noise"):
            rows_of = {key[3] for key in keys if key[0] == image and key[2] == control}
            assert rows_of == against | more and {key[1] for key in keys if key[2] == control} == {"dense"}
    assert {key[1] for key in keys} == {"dense", "sparsegpt@0.5", "all", "control"}
    dense = {row["metric"]: float(row["value"]) for row in found if (row["condition"], row["method"]) == ("dense", "")}
    assert (dense["same_prediction"], dense["agreement"], dense["kl"], dense["logit_change"]) == (1, 1, 0, 0)
    table = json.loads((Path("a b") / "table.json").read_text(encoding="utf-8"))
    cell = table["metrics"]["trojan_auc"]["average"]["all"]
    assert cell["n"] == 2 and cell["low"] <= cell["mean"] <= cell["high"] and 0 <= cell["better"] <= 1
    assert table["metrics"]["object_auc"]["saliency"]["dense"]["n"] == 3 and not table["failures"]
    assert "BEST OF TWO" in (Path("a b") / "table.md").read_text(encoding="utf-8")
    assert {file.name for file in Path("a b").glob("*.png")} >= {"gains-trojan_auc.png", "curves-deletion.png"}


def test_what_cannot_be_measured_is_listed_and_never_averaged_in(folder):
    labels = json.loads((folder / "my scenes" / "labels.json").read_text())
    labels["pictures"]["é 0.png"]["class"] = (labels["pictures"]["é 0.png"]["class"] + 1) % 5
    (folder / "my scenes" / "labels.json").write_text(json.dumps(labels))
    (folder / "my scenes" / "images" / "é 2.png").write_text("no picture")
    assert main([*COMMAND, "out=out"]) == 0
    table = json.loads((Path("out") / "table.json").read_text(encoding="utf-8"))
    why = {failure["image"]: failure["why"] for failure in table["failures"] if not failure["condition"]}
    assert set(why) == {"é 0.png", "é 2.png"} and "the network answers" in why["é 0.png"]
    assert {row["image"] for row in rows(Path("out"))} == {"é 1.png", "é 3.png", "é 4.png"}
    assert table["metrics"]["object_auc"]["saliency"]["dense"]["n"] == 1
    text = (Path("out") / "table.md").read_text(encoding="utf-8")
    assert "5 images; 2 of them left out" in text and "| é 2.png | all | all |" in text


def test_nothing_measured_is_a_failure(folder, capsys):
    for image in (folder / "my scenes" / "images").iterdir():
        image.write_text("no picture")
    assert main([*COMMAND, "out=out"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert (
        error.startswith("spade: out=out: none of 5 images was measured") and "not a picture that can be read" in error
    )
    assert "5 images; 5 of them left out" in (Path("out") / "table.md").read_text(encoding="utf-8")


def test_a_method_that_fails_is_missing_alone(folder):
    quick = [word for word in QUICK if not word.startswith("interpreter")]
    # the whole picture is one position of the last feature map's: nothing to enlarge
    arguments = [
        "eval",
        "data=my scenes",
        "model=python",
        "model.factory=test_evaluate:vector",
        "model.size=32",
        *quick,
    ]
    labels = {"classes": [], "pictures": json.loads((folder / "my scenes" / "labels.json").read_text())["pictures"]}
    for one in labels["pictures"].values():
        one.update({"class": 0, "target": None, "symbol": None, "mask": None})
    (folder / "my scenes" / "labels.json").write_text(json.dumps(labels))
    few = ("count=2", "conditions=[sparsegpt schedule=none]")  # its one layer is wide, and a trace of it slow
    assert main([*arguments, "out=out", "interpreter.methods=[saliency,guided_gradcam]", *few]) == 0
    table = json.loads((Path("out") / "table.json").read_text(encoding="utf-8"))
    assert {(f["method"], f["condition"]) for f in table["failures"]} >= {("guided_gradcam", "dense")}
    assert table["metrics"]["insertion"]["saliency"]["dense"]["n"] == 2
    assert "guided_gradcam" not in table["metrics"]["insertion"]


def vector():
    """A network without a spatial map: it always answers 0."""
    import torch

    class Vector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3 * 32 * 32, 5)
            torch.nn.init.normal_(self.head.weight, std=1e-3)
            torch.nn.init.constant_(self.head.bias, 0)
            self.head.bias.data[0] = 10

        def forward(self, x):
            return self.head(x.flatten(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Vector()


def test_killed_and_resumed_it_ends_with_the_same_numbers(folder):
    assert main([*COMMAND, "out=whole"]) == 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "spade_cli", *COMMAND, "out=killed"], env=environment, stderr=subprocess.DEVNULL
    )
    limit = time.monotonic() + 60
    while not list(Path("killed/records").glob("*.json")) and time.monotonic() < limit:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = {file.name: file.stat().st_mtime_ns for file in Path("killed/records").glob("*.json")}
    assert len(there) >= 1 and not Path("killed/results.csv").exists()
    for half in Path("killed/records").glob("*.part"):
        assert half.name not in there
    for file in sorted(Path("killed/records").glob("*.json"))[1:]:
        file.unlink()  # however quick the machine is, something is left to do
    first = next(iter(Path("killed/records").glob("*.json")))
    assert main(["eval", "resume=killed"]) == 0
    assert first.stat().st_mtime_ns == there[first.name]
    for name in RESULTS:
        assert (Path("killed") / name).read_bytes() == (Path("whole") / name).read_bytes()


def test_the_same_folder_with_another_command_is_refused(folder, capsys):
    assert main([*COMMAND, "out=out", "count=1", "metrics=[fidelity]"]) == 0
    assert main([*COMMAND, "out=out", "count=1", "metrics=[fidelity]"]) == 0
    capsys.readouterr()
    assert main([*COMMAND, "out=out", "count=1", "metrics=[fidelity]", "seed=1"]) == 2
    error = capsys.readouterr().err
    assert "seed is 0 there and 1 here" in error


def test_controls_of_the_weights_and_of_the_image(folder):
    arguments = ["metrics=[sanity]", "count=4", "schedule=uniform", "conditions=[dense,sparsegpt@0.5]", "out=out"]
    assert main(["eval", "data=my scenes", *MODEL, *QUICK, *arguments]) == 0
    metrics = json.loads((Path("out") / "table.json").read_text(encoding="utf-8"))["metrics"]
    for depth in ("last", "half", "all"):
        assert -1 <= metrics[f"randomised_{depth}"]["saliency"]["sparsegpt@0.5"]["mean"] < 0.999
    chance = metrics["overlap_chance"][""]["sparsegpt@0.5"]["mean"]
    assert chance == pytest.approx(1 / 3, abs=0.01) and "dense" not in metrics["overlap_chance"][""]


def test_fidelity_is_measured_on_augmentations_that_made_no_trace(folder):
    classifier = load_model(ModelSource(None, factory="networks:small", size=32))
    source, out = Path("my scenes"), Path("out")
    request = EvaluationRequest(
        str(source), ModelSource(None), out, TraceSettings(sample_count=6), {}, held_out=6, saliency={}
    )
    data = datasets.folder(source, out, None, 0, classifier)
    plan = EvaluationPlan(request, classifier, find_layers(classifier.model), (dense_condition(),), data)
    case = open_case(plan, 0, data.load(0))
    samples, held = case.calibration(0).samples, case.held_out.samples
    assert held.shape == samples.shape and not any(one.equal(other) for one in samples for other in held)
    assert case.calibration(0) is case.calibration(0)


def test_a_plain_folder_is_explained_for_what_the_network_answers(folder):
    for extra in ("labels.json",):
        (folder / "my scenes" / extra).unlink()
    quick = ["metrics=[localisation,insertion]", "conditions=[sparsegpt]", "out=out", "count=2"]
    assert main(["eval", "data=my scenes/images", *MODEL, *QUICK, *quick]) == 0
    assert {row["metric"] for row in rows(Path("out"))} == {"insertion", "deletion", "srg", "single_deletion"}


MISTAKES = [
    (["data=nowhere"], "data=nowhere is not there"),
    (["data=empty"], "data=empty holds no pictures"),
    (["data=world"], "data=world is for networks with its"),
    (["conditions=[dense,wandering]"], "wandering is unknown"),
    (
        ["conditions=[dense,sparsegpt@1.5]"],
        "conditions: sparsegpt@1.5: pruner.sparsity=1.5 is not a number from 0 to 1",
    ),
    (["conditions=[sparsegpt,sparsegpt]"], "sparsegpt is there twice"),
    (["conditions=[sparsegpt schedule=late schedule.last=2]"], "schedule.last=2 is not a number above 0"),
    (["conditions=[sparsegpt schedule.layers={nix: 1}]"], "nix matches no layer"),
    (["conditions=[sparsegpt seed=1]"], "seed=1 is no setting of a condition"),
    (["conditions=[plain: dense interpreter.traces=2]"], "conditions: plain: dense takes no other words than"),
    (["conditions=[sparsegpt interpreter.traces=0]"], "interpreter.traces=0 is not a whole number"),
    (["conditions=[plain: dense interpreter.smoothing.noise=2]"], "interpreter.smoothing.noise=2 is not a number"),
    (["conditions=[sparsegpt interpreter.methods=lrp]"], "interpreter.methods=lrp is no setting of a condition"),
    (["conditions=[obs pruner.granularity=half]"], "pruner.granularity=half"),
    (["conditions=[dense: sparsegpt]"], "keep their own names"),
    (["conditions=[mine: sparse_fc]"], "keep their own names"),
    (["conditions=[]"], "is not a list of conditions"),
    (["metrics=[speed]"], "metrics=['speed'] is unknown; there are localisation"),
    (["metrics=[concepts]"], "the reader of concepts knows data=world only"),
    (["aggregation=worst"], "aggregation=['worst'] is unknown"),
    (["count=0"], "count=0 is not a whole number"),
    (["out=labels.txt"], "is a file"),
    (["out=my scenes"], "holds other files"),
    (["resume=my scenes"], "resume=my scenes resumes with its own command"),
    (["model.factory=user_outputs:mean_of_softmaxes"], "answers with probabilities"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(folder, capsys, arguments, said):
    (folder / "empty").mkdir()
    (folder / "labels.txt").write_text("x")
    before = sorted(folder.rglob("*"))
    assert main([*COMMAND[:-1], "conditions=[sparsegpt]", "out=out", *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spade: ")]
    assert len(error) == 1 and said in error[0], error
    assert sorted(folder.rglob("*")) == before


def test_a_folder_of_ones_own_is_there_again_when_resumed(folder):
    (folder / "own" / "schedule").mkdir(parents=True)
    (folder / "own" / "schedule" / "mine.yaml").write_text("# Mine.\n_target_: spade_cli.pruning.schedule.uniform\n")
    quick = ("metrics=[fidelity]", "count=1", "conditions=[c: sparsegpt schedule=mine]", "--config-dir", "own")
    assert main(["eval", "data=my scenes", *MODEL, *QUICK[:-1], *quick, "seed=1", "out=found"]) == 0
    before = Path("found/results.csv").read_bytes()
    Path("found/results.csv").unlink()
    assert main(["eval", "resume=found"]) == 0
    assert Path("found/results.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("interpreter", "metrics", "said"),
    [
        ("visualization", "insertion", "is measured on saliency maps"),
        ("saliency", "concepts", "feature visualizations"),
    ],
)
def test_what_is_measured_needs_its_interpreter(folder, capsys, interpreter, metrics, said):
    assert (
        main(["eval", "data=my scenes", *MODEL, f"interpreter={interpreter}", f"metrics=[{metrics}]", "out=out"]) == 2
    )
    assert said in capsys.readouterr().err and not Path("out").exists()


def test_resuming_nothing_is_a_mistake(folder, capsys):
    assert main(["eval", "resume=nowhere"]) == 2
    assert "nowhere holds no evaluation" in capsys.readouterr().err
