"""Classifiers that answer as those of Ultralytics: probabilities, or these beside their scores; and their files."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from networks import photograph
from torch import Tensor, nn
from user_networks import picture, refusal, seeded, wrapped
from weights import RAN

from spade_cli import interpretation
from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.interpretation import explainable
from spade_cli.models.weight_files import read_weight_file
from spade_cli.networks.scores import Output

FORMS = {
    "tuple": lambda scores: (scores.softmax(1), scores),  # today's
    "probabilities": lambda scores: scores.softmax(1),  # those of old versions, and of an exported one
    "dict": lambda scores: {"scores": scores, "labels": scores.sigmoid()},
    "others": lambda scores: (scores.softmax(1), scores.sum(1, keepdim=True), scores + torch.arange(5)),
}


class Head(nn.Module):
    """A convolution, a mean over places, and a linear layer; scores in training mode, FORMS in eval mode."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.conv, self.norm = form, nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.pool, self.drop, self.linear = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.0, inplace=True), nn.Linear(16, 5)
        nn.init.normal_(self.linear.weight)

    def forward(self, x: Tensor) -> object:
        places = nn.functional.silu(self.norm(self.conv(x)))
        scores = self.linear(self.drop(self.pool(places).flatten(1)))
        return scores if self.training else FORMS[self.form](scores)


class StandIn(nn.Module):
    """A list of layers, the last of which is the head."""

    def __init__(self, form: str = "tuple") -> None:
        super().__init__()
        self.model = nn.ModuleList([nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.SiLU(), Head(form)])

    def forward(self, x: object, *args: object) -> object:
        if isinstance(x, dict):  # a batch of the training
            return x["loss"]
        for layer in self.model:
            x = layer(x)
        return x


def network() -> nn.Module:
    """A factory for model=python."""
    return seeded(StandIn).eval()


def scores_of(given: nn.Module, x: Tensor) -> Tensor:
    """The scores, computed from the layers one after the other."""
    *body, head = given.model
    for layer in body:
        x = layer(x)
    x = head.norm(head.conv(x))
    return head.linear((x * x.sigmoid()).mean((2, 3)))


@torch.no_grad()
def test_of_probabilities_and_scores_the_scores_are_explained() -> None:
    given, x = network(), picture()
    made = wrapped(given)
    assert torch.allclose(made.model(x), scores_of(given, x), atol=1e-6) and made.output is Output.SOFTMAX
    assert torch.allclose(made.output.probabilities(made.model(x)), given(x)[0].double(), atol=1e-6)
    assert any("as with model.logits=1" in note for note in made.notes)
    assert isinstance(given(x), tuple)  # the user's own network is as it was
    by_hand = wrapped(network(), logits="1")
    assert torch.equal(by_hand.model(x), made.model(x)) and not any("probabilities" in note for note in by_hand.notes)


def test_maps_hold_on_it() -> None:
    x = picture()
    found = explainable(wrapped(network()).model, x)
    assert found.reason is None
    assert interpretation.lrp(found, x, 1).checks["conservation"] == pytest.approx(1, abs=0.05)
    leaf = x.clone().requires_grad_()
    scores_of(network(), leaf)[0, 1].backward()
    assert torch.allclose(interpretation.saliency(found, x, 1).map, leaf.grad[0].abs(), atol=1e-6)


def test_labels_beside_their_sigmoid() -> None:
    made = wrapped(seeded(lambda: StandIn("dict")).eval())
    assert made.output is Output.SIGMOID and any("as with model.logits=scores" in note for note in made.notes)
    assert wrapped(seeded(lambda: StandIn("dict")).eval(), output="softmax").output is Output.SOFTMAX


def test_probabilities_alone_are_refused_and_their_logarithm_is_not() -> None:
    message = refusal(seeded(lambda: StandIn("probabilities")).eval())
    assert "ends in a softmax" in message and "return p.log(): scores up to a constant" in message
    assert "say which entry of it has the class scores" in refusal(seeded(lambda: StandIn("others")).eval())

    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = seeded(lambda: StandIn("probabilities")).eval()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).log()

    given, x = Scores().eval(), picture()
    made = wrapped(given)
    with torch.no_grad():
        assert torch.allclose(made.output.probabilities(made.model(x)), given.net(x).double(), atol=1e-6)
        shift = made.model(x) - scores_of(given.net, x)
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-5)


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photograph().save("cat.png")
    words = ["run", "image=cat.png", "model=python", f"model.factory={__name__}:network", "model.size=32", "out=run"]
    words += ["model.mean=[0,0,0]", "model.std=[1,1,1]", "augmentation.samples=4", "device=cpu", "interpreter.steps=2"]
    words += ["interpreter=all", "interpreter.methods=[saliency,lrp]", "schedule=late", "schedule.last=0.5"]
    assert main([*words, "interpreter.smoothing.samples=1"]) == 0
    summary = json.loads(next(Path("run").rglob("summary.json")).read_text(encoding="utf-8"))
    assert any("scores before them (entry 1)" in flag for flag in summary["flags"]) and summary["visualizations"]
    assert {one["method"] for one in summary["saliency"]} == {"saliency", "lrp"}


def test_the_file_names_the_lines_that_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = types.ModuleType("ultralytics.nn.tasks")
    tasks.ClassificationModel = type("ClassificationModel", (StandIn,), {"__module__": tasks.__name__})
    with monkeypatch.context() as patch:
        for name in ("ultralytics", "ultralytics.nn", tasks.__name__):
            patch.setitem(sys.modules, name, tasks)
        torch.save({"epoch": -1, "model": tasks.ClassificationModel(), "ema": None}, "yolo.pt")
    with pytest.raises(UserError) as caught:
        read_weight_file(Path("yolo.pt"), "model.weights=yolo.pt")
    message = str(caught.value)
    assert "\n" not in message and "(ultralytics.nn.tasks.ClassificationModel), so it was not opened" in message
    assert "from ultralytics import YOLO, and net = YOLO('yolo.pt').model;" in message
    assert "model.factory=mynets.py:net" in message and not RAN.exists()
