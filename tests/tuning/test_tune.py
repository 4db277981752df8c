"""spade tune: what it measures and writes, that a stop changes nothing, and that its table is a schedule."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest
import torch
from networks import DEVICE, small
from scenes import MODEL, write_scenes

from spade_cli.cli import main
from spade_cli.evaluation.records_folder import Record
from spade_cli.tuning import tpe as tpes
from spade_cli.tuning import trials as trials_file
from spade_cli.tuning.greedy import greedy
from spade_cli.tuning.space import Score, Space
from spade_cli.tuning.tpe import tpe
from spade_cli.tuning.trials import gain, is_lost

COMMAND = (
    *("tune", "data=my scenes", *MODEL, "augmentation.samples=4", f"device={DEVICE}"),
    "interpreter.methods=[saliency,lrp]",
    *("pruner=sparsegpt", "metric=deletion", "ladder=[0.5,0.9]", "lost=0.5", "held_out=0.4"),
)
GREEDY = (*COMMAND, "tuner=greedy")
TPE = (*COMMAND, "trials=4")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "my scenes", 10)  # every other one has a symbol, and no deletion is measured on it
    return tmp_path


def results(out):
    return json.loads((Path(out) / "tuning.json").read_text(encoding="utf-8"))


def test_greedy_takes_each_blocks_best_share_given_those_before():
    """Against every setting of the ladder, on gains that depend on what is taken before."""
    value = {("a", 0.5): 1.0, ("a", 0.9): 3.0, ("b", 0.5): -1.0, ("b", 0.9): -2.0, ("c", 0.5): 0.5, ("c", 0.9): 4.0}
    tried = []

    def attempt(shares):
        tried.append(dict(shares))
        if shares.get("c") == 0.9:  # the best by far, and broken off
            return Score(None, 9.0, 1, 1)
        return Score(sum(value[item] for item in shares.items()), 0.0, 3, 0)

    assert greedy(Space(("a", "b", "c"), (0.5, 0.9)), attempt) == {"a": 0.9, "c": 0.5}
    assert len(tried) == 6 and {"a": 0.9, "b": 0.5} in tried and {"a": 0.9, "c": 0.5} in tried
    assert greedy(Space(("b",), (0.5, 0.9)), attempt) == {}


def test_tpe_proposes_the_same_whenever_it_was_stopped_and_never_takes_what_was_broken_off(tmp_path):
    optuna = pytest.importorskip("optuna")
    space = Space(("a", "b", "c"), (0.5, 0.7, 0.9))
    best = {"a": 0.9, "b": 0.5}

    def attempt(shares):
        if shares.get("c") == 0.9:
            return Score(None, 99.0, 2, 1)
        return Score(1 - sum(abs(shares.get(block, 0) - best.get(block, 0)) for block in space.blocks), 0.0, 5, 0)

    def stopped(shares):
        raise KeyboardInterrupt

    def params(name):
        study = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path / name / 'study.db'}")
        return [trial.params for trial in study.trials if trial.state.name != "FAIL"]

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    found = tpe(space, attempt, trials=40, seed=1, folder=tmp_path / "whole")
    assert attempt(found).gain > 0.5 and found.get("c", 0) != 0.9
    for trials in (2, 15, 40):  # stopped in the middle of the third, the sixteenth; the last time at the end
        tpe(space, attempt, trials=trials, seed=1, folder=tmp_path / "parts")
        if trials < 40:
            with pytest.raises(KeyboardInterrupt):
                tpe(space, stopped, trials=40, seed=1, folder=tmp_path / "parts")
    assert params("parts") == params("whole") and len(params("whole")) == 40
    assert params("whole")[:3] == [dict.fromkeys("abc", step) for step in (3, 2, 1)]
    (tmp_path / "dense").mkdir()
    assert tpe(space, lambda shares: Score(-1.0, 0.0, 5, 0), trials=4, seed=1, folder=tmp_path / "dense") == {}


def test_a_gain_is_paired_and_a_missing_map_is_a_loss():
    def record(condition, values, same=1.0):
        rows = [(condition, method, "deletion", value) for method, value in values.items()]
        return Record(0, "x", rows=[*rows, (condition, "", "same_prediction", same)])

    dense = record("dense", {"saliency": 0.4, "lrp": 0.8})
    better = record("tuned", {"saliency": 0.3, "lrp": 0.4})
    assert gain(dense, better, "deletion") == pytest.approx(0.25), "less is better"
    assert not is_lost(dense, better, "deletion") and is_lost(dense, record("tuned", {"saliency": 0.3}), "deletion")
    assert is_lost(dense, record("tuned", {"saliency": 0.3, "lrp": 0.4}, same=0.0), "deletion")
    assert gain(dense, record("tuned", {"saliency": 0.3}), "deletion") is None


def test_greedy_on_pictures_writes_a_schedule_that_run_and_eval_take(folder, capsys):
    assert main([*GREEDY, "out=a b"]) == 0
    found = results("a b")
    sets = found["sets"]
    assert len(sets["tuning"]["images"]) == 3 and len(sets["held_out"]["images"]) == 2, "5 pictures have no symbol"
    assert not set(sets["tuning"]["images"]) & set(sets["held_out"]["images"])
    assert len(found["trials"]) == 4 and found["blocks"] == {"conv2": ["conv2"], "conv1": ["conv1"]}
    gained = [trial["gain"] for trial in found["trials"] if trial["gain"] is not None]
    assert gained == sorted(gained, reverse=True)
    text = (Path("a b") / "table.md").read_text(encoding="utf-8")
    assert "Held-out images" in text and "5 other pictures have no deletion" in text

    # the figure, again, with what spade eval measures of the schedule that was written
    words = [word for word in COMMAND[1:] if word.split("=")[0] not in ("metric", "ladder", "lost", "held_out")]
    conditions = "conditions=[tuned: sparsegpt schedule='a b/schedule.yaml']"
    assert main(["eval", *words, "metrics=[insertion]", "controls=[]", conditions, "out=check"]) == 0
    rows = [line.split(",") for line in (Path("check") / "results.csv").read_text(encoding="utf-8").splitlines()[1:]]
    for name in ("tuning", "held_out"):
        differences = []
        for image in sets[name]["images"]:
            own = [row for row in rows if row[0] == image and row[3] == "deletion"]
            dense, tuned = (mean(float(row[4]) for row in own if row[1] == which) for which in ("dense", "tuned"))
            differences.append(dense - tuned)
        assert sets[name]["gain"]["mean"] == pytest.approx(mean(differences), abs=1e-9)
    assert found["shares"] and sets["tuning"]["gain"]["mean"] > 0

    image = next((folder / "my scenes" / "images").iterdir())
    quick = [*MODEL, "augmentation.samples=4", f"device={DEVICE}", "interpreter=saliency"]
    quick += ["interpreter.methods=[saliency]"]
    capsys.readouterr()
    assert main(["run", f"image={image}", *quick, "schedule=a b/schedule.yaml", "pruner=sparsegpt"]) == 0
    summary = json.loads((Path(capsys.readouterr().out.strip()) / "summary.json").read_text(encoding="utf-8"))
    assert summary["schedule"] == "schedule"
    asked = {layer["name"]: layer["asked"] for layer in summary["layers"]}
    assert {name: asked[name] for name in ("conv1", "conv2")} == {
        name: found["shares"].get(name, 0.0) for name in ("conv1", "conv2")
    }


def test_a_trial_that_loses_too_many_images_is_broken_off(folder, monkeypatch):
    seen = []

    def other_answer(draft, shares):
        seen.append(shares)
        model = small()
        with torch.no_grad():
            model.head.weight.neg_()  # every answer is another one
        return model

    monkeypatch.setattr(trials_file.Draft, "set", other_answer)
    assert main([*GREEDY, "lost=0.34", "out=out", "blocks=1"]) == 0
    found = results("out")
    assert [(trial["gain"], trial["seen"], trial["lost"]) for trial in found["trials"]] == [(None, 2, 2)] * 2
    assert found["shares"] == {}
    assert '"conv2": 0.0' in (Path("out") / "schedule.yaml").read_text(encoding="utf-8")


def test_a_stop_changes_nothing_and_what_was_measured_is_read(folder, monkeypatch):
    assert main([*GREEDY, "out=whole"]) == 0
    original, left = trials_file.Bench._trial, [2]

    def stopping(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(trials_file.Bench, "_trial", stopping)
    assert main([*GREEDY, "out=stopped"]) == 130
    assert len(list(Path("stopped/trials").glob("*.json"))) == 2 and "sets" not in results("stopped")
    monkeypatch.setattr(trials_file.Bench, "_trial", original)
    assert main([*GREEDY, "out=stopped"]) == 0
    for key in ("shares", "sets", "trials"):
        assert results("stopped")[key] == results("whole")[key]


def test_what_does_not_fit_into_memory_is_solved_anew_to_the_same_figures(folder):
    assert main([*GREEDY, "out=in"]) == 0 and main([*GREEDY, "calibration.memory=1e-9", "out=not"]) == 0
    assert results("in")["trials"] == results("not")["trials"]


MISTAKES = [
    (["pruner.sparsity=0.9"], "pruner.sparsity is what is tuned here"),
    (["ladder=[1.5]"], "ladder=1.5 is not a share between 0 and 1"),
    (["ladder=[0]"], "ladder=0 is not a share between 0 and 1"),
    (["ladder=null"], "is not a list of shares"),
    (["metric=kl"], "metric=['kl'] is unknown; there are trojan_auc"),
    (["tuner=grid"], "tuner=['grid'] is unknown; there are tpe, greedy"),
    (["held_out=1"], "held_out=1 is not a number from 0 to 0.9"),
    (["blocks=0"], "blocks=0 is not a whole number"),
    (["data=nowhere"], "data=nowhere is not there"),
    (["out=my scenes"], "holds other files; give a new folder, or the one of a tuning"),
]


def test_a_mistake_is_one_line_and_leaves_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    for arguments, said in MISTAKES:
        assert main([*GREEDY, "out=out", *arguments]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spade: ")]
        assert len(error) == 1 and said in error[0], error
        assert sorted(folder.rglob("*")) == before


def test_without_optuna_it_says_what_to_install(folder, capsys, monkeypatch):
    monkeypatch.setattr(tpes, "find_spec", lambda name: None)
    assert main([*TPE, "out=out"]) == 2
    assert "pip install 'optuna>=4'" in capsys.readouterr().err and not Path("out").exists()


def test_another_command_in_the_same_folder_is_refused(folder, capsys):
    assert main([*GREEDY, "blocks=1", "ladder=[0.5]", "out=out"]) == 0
    assert main([*GREEDY, "blocks=1", "ladder=[0.9]", "out=out"]) == 2
    assert "out=out is of another tuning: ladder is [0.5] there and [0.9] here" in capsys.readouterr().err


def test_tpe_goes_on_to_more_trials_as_if_it_had_never_stopped(folder, monkeypatch):
    pytest.importorskip("optuna")
    assert main([*TPE, "out=whole"]) == 0
    found = results("whole")
    gains = [trial["gain"] for trial in found["trials"] if trial["gain"] is not None]
    best = max([0.0, *gains])
    assert found["sets"]["tuning"]["gain"]["mean"] == pytest.approx(best)
    shares = [trial["shares"] for trial in found["trials"]]
    assert {"conv2": 0.9, "conv1": 0.9} in shares and {"conv2": 0.5, "conv1": 0.5} in shares, "the first two"

    original = trials_file.Bench._trial

    def stopping(self, *arguments):
        raise KeyboardInterrupt

    assert main([*COMMAND, "trials=1", "out=stopped"]) == 0
    monkeypatch.setattr(trials_file.Bench, "_trial", stopping)  # in the middle of the second
    assert main([*TPE, "out=stopped"]) == 130
    monkeypatch.setattr(trials_file.Bench, "_trial", original)
    assert main([*TPE, "out=stopped"]) == 0
    again = results("stopped")
    assert (again["shares"], again["sets"]) == (found["shares"], found["sets"])
    assert [t for t in again["trials"] if t in found["trials"]] == found["trials"]


def test_two_processes_share_the_trials_of_a_folder(folder):
    pytest.importorskip("optuna")
    import optuna

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "spade_cli", *COMMAND, "trials=6", "out=out"]
    both = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    study = optuna.load_study(study_name="tune", storage="sqlite:///out/study.db")
    states = [trial.state.name for trial in study.trials]
    assert 6 <= len(states) <= 7 and not set(states) - {"COMPLETE", "PRUNED"}
    assert not list(Path("out").rglob("*.part"))
