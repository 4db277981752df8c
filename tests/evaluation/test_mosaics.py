"""The mosaic game: where each picture stands, which class is asked for, what is left out, and the command."""

import csv
from pathlib import Path

import pytest
import torch
from networks import DEVICE
from scenes import MODEL, QUICK, SIZE, write_scenes
from torch import nn

from spade_cli.cli import main
from spade_cli.errors import SpadeError
from spade_cli.evaluation.data import Data, Example
from spade_cli.evaluation.mosaics import compose_mosaic, mosaics
from spade_cli.models import Classifier
from spade_cli.models.classifier import Preprocessing

COLOURS = {0: (250, 0, 0), 1: (0, 240, 0), 2: (0, 0, 230), 3: (90, 90, 90)}


class Brightest(nn.Module):
    """Red, green and blue by the mean of the channels, grey where they are alike; red counts a little more."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.02, 1.0, 1.0]))

    def forward(self, x):
        means = x.mean((2, 3)) * self.weight
        grey = 0.5 - 10 * (means.amax(1, keepdim=True) - means.amin(1, keepdim=True))
        return torch.cat([means, grey], 1)


def classifier(resize=SIZE):
    own = Preprocessing(SIZE, resize, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return Classifier(Brightest().eval(), "brightest", "none", None, None, own, 4)


def plain(kinds):
    """Pictures of one colour each, by the number of their class."""

    def load(index):
        if kinds[index] is None:
            raise SpadeError("cannot be read")
        return Example(torch.tensor(COLOURS[kinds[index]], dtype=torch.uint8)[:, None, None].expand(3, 48, 48), None)

    names = tuple(map(str, range(len(kinds))))
    return Data(names, (None,) * len(kinds), names, load, {"data": "plain"})


def test_four_parts_stand_row_by_row_and_the_crop_removes_the_border_alone():
    parts = [torch.full((3, 4, 4), value / 255) for value in (10, 20, 30, 40)]
    picture, numbers = compose_mosaic(parts, (11, 11))
    assert picture.shape == (3, 11, 11) and picture.dtype == torch.uint8
    inside = picture[0, 1:9, 1:9]  # (11 - 8) // 2 is the crop's first row
    assert inside[0].tolist() == [10] * 4 + [20] * 4 and inside[7].tolist() == [30] * 4 + [40] * 4
    assert torch.equal(numbers[1:9, 1:9], inside.long() // 10 - 1)
    assert picture[0, 0, 0] == 10 and picture[0, 10, 10] == 40 and numbers[10, 10] == 3


@pytest.mark.parametrize("resize", [SIZE, SIZE + 8])
def test_the_answer_to_the_mosaic_is_asked_for_in_its_own_quarter(resize):
    made = mosaics(plain([2, 2, 1, None, 0, 3, 1]), classifier(resize))
    places = set()
    for index in (0, 1, 2, 4, 5, 6):
        example = made.load(index)
        assert example.target == 0 and example.mosaic and not example.trojan
        view = classifier(resize).preprocessing.view(example.image)[0]
        cut = (resize - SIZE) // 2
        mask = example.mask[cut : cut + SIZE, cut : cut + SIZE]
        assert mask.sum() == SIZE * SIZE // 4 and (view[0][mask] > 0.95).all() and (view[0][~mask] < 0.5).all()
        corners = [tuple((view[:, i, j] * 255).round().int().tolist()) for i in (2, SIZE - 3) for j in (2, SIZE - 3)]
        assert set(corners) == set(COLOURS.values())
        places.add(int(mask.flatten().nonzero()[0]))
    assert len(places) > 1, "the picture has no place of its own"
    assert made.identity["mosaic"] and made.targets == (None,) * 7


def test_mosaics_that_are_left_out():
    with pytest.raises(SpadeError, match="pictures of 4 classes, and the network sees 3 here"):
        mosaics(plain([0, 1, 2, 0]), classifier()).load(0)
    with pytest.raises(SpadeError, match="cannot be read"):
        mosaics(plain([None, 0, 1, 2, 3]), classifier()).load(0)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("data=world", "count=12", "trojan_share=0", "interpreter.methods=[saliency]", f"device={DEVICE}")
    more = ("controls=[]", "augmentation.samples=4", "mosaic=true", "conditions=[dense]")
    assert main(["eval", *words, *more, "metrics=[localisation]", "out=found"]) == 0
    with Path("found/results.csv").open(encoding="utf-8", newline="") as file:
        metrics = [row["metric"] for row in csv.DictReader(file)]
    assert set(metrics) == {f"mosaic_{how}" for how in ("auc", "mass", "rank", "pointing")} and len(metrics) > 4
    capsys.readouterr()
    assert main(["eval", *words, *more, "metrics=[concepts]", "interpreter=all", "out=other"]) == 2
    assert "mosaic=true shows four pictures at once" in capsys.readouterr().err


def test_insertion_into_the_blurred_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path / "scenes", 1)
    words = (*MODEL, *QUICK, "conditions=[dense]", "metrics=[insertion]", "controls=[]")
    assert main(["eval", "data=scenes", *words, "fills=[mean,blurred]", "out=found"]) == 0
    with Path("found/results.csv").open(encoding="utf-8", newline="") as file:
        found = {row["metric"]: float(row["value"]) for row in csv.DictReader(file) if row["method"] == "saliency"}
    of_fills = {f"{kind}{suffix}" for kind in ("insertion", "deletion", "srg") for suffix in ("", "_blurred")}
    assert set(found) == of_fills | {"single_deletion"} and found["srg"] != found["srg_blurred"]
