"""The human study: patches of exactly a tenth, nothing of the conditions in the page, answers scored by the key."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import MODEL, QUICK, write_scenes

from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.evaluation.study.build_study import top_share
from spade_cli.evaluation.study.score_answers import score, scores_to_text
from spade_cli.images.load import load_image
from spade_cli.interpretation import explainable, score_cam
from spade_cli.models import ModelSource, load_model


def test_a_patch_is_exactly_a_tenth_of_the_pixels():
    for relevance in (torch.randn(13, 17), torch.zeros(13, 17)):
        assert top_share(relevance, 0).sum() == round(0.1 * 13 * 17)
    ordered = torch.arange(100.0).view(10, 10)
    assert top_share(ordered, 0).flatten().nonzero().flatten().tolist() == list(range(90, 100))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(
            "spade_cli.evaluation.study.build_study.MOST_SHARED", 1.0
        )  # the small network's maps are much alike
        patch.setattr("spade_cli.evaluation.study.build_study.is_blank", lambda shown: False)
        write_scenes(folder / "scenes", 3)
        arguments = ["conditions=[dense,hidden-one: sparsegpt@0.5]", "interpreter.steps=2", "study=my study"]
        assert main(["eval", "data=scenes", *MODEL, *QUICK, *arguments]) == 0
    return folder / "my study"


def page_tasks(study):
    page = (study / "study.html").read_text(encoding="utf-8")
    return json.loads(re.search(r"const STUDY = (.*);\n", page)[1])


def test_the_page_shows_every_task_and_hides_the_conditions(study):
    shown, key = page_tasks(study), json.loads((study / "key.json").read_text(encoding="utf-8"))
    assert {task["task"] for task in shown["tasks"]} == set(key["tasks"]) and len(key["tasks"]) == 6
    for task in shown["tasks"]:
        assert set(task) == {"task", "image", "visualization", "left", "right"}
        assert all(task[part].startswith("data:image/png;base64,") for part in set(task) - {"task"})
    page = (study / "study.html").read_text(encoding="utf-8")
    assert "hidden-one" not in page and "dense" not in page and "http" not in page.replace("http-equiv", "")
    pairs = {(task["image"], task["condition"]) for task in key["tasks"].values()}
    assert len(pairs) == 6
    images = [task["image"] for task in key["tasks"].values()]
    assert images != sorted(images)


def test_the_key_says_on_which_side_the_patch_of_the_neurons_class_is(study):
    shown = {task["task"]: task for task in page_tasks(study)["tasks"]}
    classifier = load_model(ModelSource(None, factory="networks:small", size=32))
    for number, task in json.loads((study / "key.json").read_text(encoding="utf-8"))["tasks"].items():
        view = classifier.preprocessing.view(load_image(study.parent / "scenes" / "images" / task["image"]))
        x = classifier.preprocessing.normalise(view)
        safe = explainable(classifier.model, x)
        patches = {}
        for what in ("neuron", "other"):
            relevance = score_cam(safe, x, int(task[what].removeprefix("class "))).map[0]
            patches[what] = torch.where(top_share(relevance, 0), view[0], torch.ones(3, 32, 32))
        for what, side in (("neuron", task["right_side"]), ("other", opposite(task["right_side"]))):
            png = Image.open(io.BytesIO(base64.b64decode(shown[number][side].partition(",")[2])))
            pixels = torch.from_numpy(np.array(png)).permute(2, 0, 1).float() / 255
            assert (pixels - patches[what]).abs().max() < 0.01
    assert not patches["neuron"].equal(patches["other"])
    sides = [task["right_side"] for task in json.loads((study / "key.json").read_text())["tasks"].values()]
    assert set(sides) == {"left", "right"}


def answered(study, path, rule):
    key = json.loads((study / "key.json").read_text(encoding="utf-8"))
    answers = [{"task": number, "answer": rule(task), "seconds": 1.5} for number, task in key["tasks"].items()]
    path.write_text(json.dumps({"study": key["study"], "rater": "é", "answers": answers}), encoding="utf-8")


def opposite(side):
    return "left" if side == "right" else "right"


def test_answers_are_scored_by_condition_and_in_pairs(study, tmp_path, capsys):
    (tmp_path / "answers").mkdir()

    def first(task):  # right on the trace, "both" on the dense network
        return task["right_side"] if task["condition"] != "dense" else "both"

    def second(task):  # wrong on the trace, right on the dense network
        return opposite(task["right_side"]) if task["condition"] != "dense" else task["right_side"]

    answered(study, tmp_path / "answers" / "a.json", first)
    answered(study, tmp_path / "answers" / "b.json", second)
    found = score(tmp_path / "answers", study).to_json()["rows"]
    assert [found["agree"][name]["mean"] for name in ("dense", "hidden-one")] == [0.5, 0.5]
    assert [found["disagree"][name]["mean"] for name in ("dense", "hidden-one")] == [0, 0.5]
    assert [found["undecided"][name]["mean"] for name in ("dense", "hidden-one")] == [0.5, 0]
    assert found["agree when decided"]["dense"] == pytest.approx(dict(n=3, mean=1, low=1, high=1))
    assert found["agree"]["hidden-one"]["difference"]["n"] == 6 and found["agree"]["hidden-one"]["better"] == 0.5
    assert main(["eval", f"answers={tmp_path}/answers", f"study={study}"]) == 0
    printed = capsys.readouterr().out
    assert printed == scores_to_text(score(tmp_path / "answers", study)) + "\n"
    assert "12 answers of 2 raters" in printed and "| undecided | 50.0 %" in printed


def test_the_key_is_found_beside_the_answers(study):
    answered(study, study / "mine.json", lambda task: "none")
    try:
        assert score(study / "mine.json", None) == score(study, None)
    finally:
        (study / "mine.json").unlink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not there"),
        ("{", "cannot be read as JSON"),
        ('{"study": "x", "answers": []}', "it has no answers"),
        ('{"study": "x", "answers": [{"task": "0001", "answer": "left"}]}', "is of study x"),
    ],
)
def test_answers_that_are_none(study, tmp_path, content, said):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=said):
        score(tmp_path / "a.json", study)


def test_an_answer_that_the_page_does_not_offer(study, tmp_path):
    answered(study, tmp_path / "a.json", lambda task: "maybe")
    with pytest.raises(UserError, match="is no answer of this study"):
        score(tmp_path / "a.json", study)
    with pytest.raises(UserError, match=r"key\.json is not beside it"):
        score(tmp_path / "a.json", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no JSON file"):
        score(tmp_path / "empty", study)
