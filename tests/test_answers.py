"""Networks that return more than their scores, and names that are assumed: `model.logits`, `model.labels`."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.models import ModelSource, load_model, wrap
from spade_cli.models.label_sets import ASSUMED, LABEL_SETS
from spade_cli.pruning import find_layers


@dataclass
class Answer:
    scores: Tensor
    loss: float


Pair = namedtuple("Pair", ["features", "scores"])
FORMS = {
    "scores": lambda scores: {"loss": None, "scores": scores},
    "attribute": lambda scores: Answer(scores, 0.0),
    "named": lambda scores: Pair(scores.sum(), scores),
    "1": lambda scores: (scores.sum(), scores),
}


class Several(nn.Module):
    """Returns its scores inside something else."""

    def __init__(self, form: str, classes: int = 3) -> None:
        super().__init__()
        self.form, self.body = form, nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> object:
        return FORMS[self.form](self.head(self.body(x)))


@pytest.mark.parametrize("form", FORMS)
def test_an_entry_of_the_answer_is_the_scores(form):
    entry = form if form in ("scores", "1") else "scores"
    network = Several(form).eval()
    made = wrap(network, size=16, logits=entry)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(made.model(x), network.head(network.body(x)))
        assert not isinstance(network(x), Tensor)  # the user's own network is as it was
    assert made.classes == 3 and [layer.name for layer in find_layers(made.model, made.grey())] == ["body.0", "head"]


def test_mistakes_name_what_is_there():
    with pytest.raises(UserError, match=r"returns dict for one picture: say which entry .* such as logits=logits"):
        wrap(Several("scores").eval(), size=16)
    with pytest.raises(
        UserError,
        match=r"logits=logits is not in what the network returns; there are loss \(NoneType\), scores \(1, 3\)",
    ):
        wrap(Several("scores").eval(), size=16, logits="logits")
    with pytest.raises(UserError, match=r"the network returns its scores alone, \(1, 5\); leave it out"):
        wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5)).eval(), size=16, logits="logits")


def test_a_network_of_dicts_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten(), nn.Linear(8, 3))\n"
        "    def forward(self, x):\n        return {'logits': self.body(x)}\n"
    )
    assert main(["world", "count=1", "out=pictures"]) == 0
    words = ["run", "image=pictures/images", "model=python", "model.factory=mine.py:Net", "model.size=32"]
    words[1] = f"image={next((tmp_path / 'pictures' / 'images').iterdir())}"
    words += ["interpreter.methods=[saliency]", "interpreter=saliency", "augmentation.samples=4", "out=out"]
    assert main([*words, "model.logits=logits"]) == 0
    assert main(words) == 2


def test_imagenets_names_are_assumed_for_a_thousand_classes():
    thousand = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1000)).eval(), size=16)
    assert thousand.label(207) == "golden retriever" and ASSUMED in thousand.notes
    ten = wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10)).eval(), size=16)
    assert ten.labels is None and ASSUMED not in ten.notes
    known = load_model(ModelSource("resnet18", weights="none", size=32))
    assert known.label(207) == "golden retriever" or ASSUMED in known.notes


@pytest.mark.parametrize(("name", "count"), [("imagenet", 1000), ("cifar10", 10), ("cifar100", 100), ("mnist", 10)])
def test_names_of_data_sets(tmp_path, monkeypatch, name, count):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        f"from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, {count}))\n"
    )
    made = load_model(ModelSource("mine", "mine.py:net", size=8, labels=name))
    assert made.labels == LABEL_SETS[name] and len(set(made.labels)) >= count - 2  # ImageNet has two pairs of namesakes
    with pytest.raises(
        UserError,
        match=f"model.labels=fashionmnist names 10 classes, but the network has {count}"
        if count != 10
        else "names 100 classes",
    ):
        load_model(ModelSource("mine", "mine.py:net", size=8, labels="fashionmnist" if count != 10 else "cifar100"))
