"""Networks as users have them, from the command line: `spade run` and `spade doctor` say the same, and say it well."""

import json
from pathlib import Path

import numpy as np
import pytest
import user_networks
import user_outputs
from networks import photograph

import spade_cli
from spade_cli.cli import main

REFUSED = (
    *("forward_replaced", "part_replaced", "hook_with_a_layer", "with_a_lock", "with_a_file", "ignores_the_picture"),
    *("one_probability", "ends_in_functional_softmax", "mean_of_softmaxes"),
    *("one_picture_at_a_time", "scripted_part", "exported_part", "four_channels", "takes_a_dict"),
)
FLAGGED = (
    *("active_dropout", "trains_in_forward", "global_state", "batch_statistics", "grey"),
    *("one_probability_of_a_module", "many_probabilities", "ends_in_softmax"),
)
SOUND = (
    *("one_logit", "frozen_logit", "many_labels", "old_weight_norm", "old_spectral_norm", "new_weight_norm"),
    *("new_spectral_norm", "pruned_by_torch", "compiled", "data_parallel", "modes_that_return_nothing"),
    *("half_inside", "double_inside", "with_a_tensor_of_parameters"),
)
TRACE = "schedule=uniform", "pruner.sparsity=0.5"
QUICK = ("augmentation.samples=8", "interpreter=saliency", "interpreter.methods=[saliency,lrp]")
NO_RULE = ("half_inside",)  # its convolutions refuse the biases of LRP's rules: skipped, with the reason


@pytest.fixture(autouse=True)
def _picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photograph().save("picture.png")


def network(name: str) -> list[str]:
    home = "user_outputs" if hasattr(user_outputs, name) else "user_networks"
    keys = {"size": user_networks.SIZE, "mean": "[0.5,0.5,0.5]", "std": "[0.25,0.25,0.25]"}
    return ["model=python", f"model.factory={home}:{name}", *(f"model.{key}={value}" for key, value in keys.items())]


def run(name: str, *options: str) -> Path:
    assert main(["run", "image=picture.png", *network(name), *QUICK, *options]) == 0
    (folder,) = Path("outputs").glob("*/*")
    return folder


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_refused_is_refused_by_every_command_in_the_same_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    commands = (["run", "image=picture.png"], ["doctor"], ["layers"], ["batch", "images=picture.png", "out=all"])
    for words in commands:
        code = main([*words, *network(name)])
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, ""), captured
        said.append([line for line in captured.err.splitlines() if line.startswith("spade: ")])
    assert all(one == said[0] and len(one) == 1 for one in said), said
    assert not list(Path("outputs").glob("*/*"))


@pytest.mark.parametrize("name", FLAGGED)
def test_what_is_in_doubt_is_a_flag_of_the_run_and_a_note_of_doctor(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = summary(run(name))
    flags, said = found["flags"], capsys.readouterr().err
    assert main(["doctor", *network(name), "interpreter.methods=[saliency]", "augmentation.samples=8"]) == 0
    notes = [line.partition("note: ")[2] for line in capsys.readouterr().out.splitlines() if "note: " in line]
    assert notes and set(notes) <= set(flags) and all(note in said for note in notes)


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.filterwarnings("ignore")
def test_what_is_sound_is_explained_without_a_note(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(name, *TRACE)
    found = summary(folder)
    assert main(["doctor", *network(name), *TRACE, QUICK[0], QUICK[2], "interpreter.steps=2"]) == 0
    doctor = capsys.readouterr().out
    assert "note: " not in doctor and " fails " not in doctor.replace("network fails", "")
    pruned = [layer["name"] for layer in found["layers"] if layer["left"] is None]
    assert len(pruned) >= 2 and not [flag for flag in found["flags"] if "left dense" in flag]
    skipped = ["lrp"] if name in NO_RULE else []
    assert [one["what"] for one in found["skipped"]] == skipped and doctor.count("skipped") == len(skipped)
    dense, trace = (np.load(folder / f"saliency/saliency_{one}.npy") for one in ("dense", "trace"))
    assert not np.array_equal(dense, trace)


@pytest.mark.parametrize("name", ["active_dropout", "trains_in_forward"])
def test_two_identical_commands_make_identical_maps(name: str) -> None:
    maps = []
    for out in ("first", "second"):
        assert main(["run", "image=picture.png", f"output={out}", *network(name), *QUICK]) == 0
        (file,) = Path(out).glob("*/*/saliency/saliency_dense.npy")
        maps.append(np.load(file))
    assert np.array_equal(*maps)


def test_labels_that_stand_alone_are_told_with_their_own_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    """softmax over labels would say a few percent of each; every label above 0.5 is the answer."""
    folder = run("many_labels", "model.output=sigmoid")
    found = summary(folder)
    classifier = spade_cli.wrap(
        user_outputs.many_labels(), size=user_networks.SIZE, mean=0.5, std=0.25, output="sigmoid"
    )
    image = spade_cli.load_image("picture.png")
    scores = classifier.model(classifier.preprocessing.normalise(classifier.preprocessing.view(image)))[0]
    target = int(scores.argmax())
    dense = found["prediction"]["dense"]
    assert dense["target_probability"] == pytest.approx(scores[target].sigmoid().item(), abs=1e-4)
    assert all(f"class {index}" in dense["label"] for index in scores.topk(3).indices.tolist())
    assert f"and {int((scores > 0).sum()) - 3} more" in dense["label"]
    assert found["model"]["output"] == "sigmoid"
    page = (folder / "report.html").read_text()
    assert "sigmoid of each of 20 labels" in page
    assert "this image" in capsys.readouterr().err


def test_one_score_that_becomes_another_answer_is_not_faithful(capsys: pytest.CaptureFixture[str]) -> None:
    found = summary(run("one_logit", "schedule=uniform", "pruner.sparsity=0.99", "pruner=magnitude"))
    dense, trace = found["prediction"]["dense"], found["prediction"]["trace"]
    assert dense["probability"] == dense["target_probability"] < 1
    assert found["fidelity"]["same_prediction"] == (dense["probability"] > 0.5) is (trace["probability"] > 0.5)


def test_the_verdict_says_what_faithful_means(capsys: pytest.CaptureFixture[str]) -> None:
    folder = run("data_parallel")
    assert "faithful: this image's answer is kept; samples:" in capsys.readouterr().err
    assert "it keeps the answer to this image. Answers to other pictures may change" in (
        folder / "report.html"
    ).read_text().replace("&#39;", "'")
