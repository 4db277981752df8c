"""Patches are the parts of real pictures that excite a channel most: found, ranked and cut as a loop would do it."""

import pytest
import torch
from torch import nn

from spade_cli.inspection.find_patches import BATCH, PATCHES, add_patches, cut_patch, find_place
from spade_cli.models import Preprocessing
from spade_cli.report.channel_pages import Neuron

SIZE = 32
OWN = Preprocessing(resize=SIZE, size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8 * 8, 3)).eval()


def neuron(layer, channel):
    return Neuron(layer, channel, {}, {}, {})


def test_the_strongest_patches_are_found():
    model, views = network(), torch.rand(BATCH + 3, 3, SIZE, SIZE)  # more than a batch
    neurons, told = [neuron("0", 2), neuron("3", 1)], []
    add_patches({"dense": model}, neurons, OWN, views.split(1), told.append)
    assert told == [BATCH, 3] and [len(one.patches["dense"]) for one in neurons] == [PATCHES] * 2
    with torch.no_grad():
        maps, answers = model[0](OWN.normalise(views))[:, 2], model(OWN.normalise(views))[:, 1]
    best = sorted(range(len(views)), key=lambda n: -maps[n].max().item())
    for n, patch in zip(best, neurons[0].patches["dense"], strict=False):
        row, column = divmod(int(maps[n].argmax()), 8)
        side = round(3 / 8 * SIZE)  # three of the layer's eight positions
        top, left = (min(max(round((at + 0.5) * 4 - side / 2), 0), SIZE - side) for at in (row, column))
        assert torch.equal(patch, views[n, :, top : top + side, left : left + side])
    best = sorted(range(len(views)), key=lambda n: -answers[n].item())
    for n, patch in zip(best, neurons[1].patches["dense"], strict=False):
        assert torch.equal(patch, views[n])  # a class has no places: the whole picture


@pytest.mark.parametrize(("height", "side"), [(2, 1.0), (3, 1.0), (6, 0.5), (12, 0.25), (50, 0.25)])
def test_a_patch_spans_three_positions_but_a_quarter_at_least(height, side):
    values = torch.zeros(height, height)
    values[0, 1] = 1
    assert find_place(values) == (1.0, (0.5 / height, 1.5 / height, side))


def test_what_has_no_places_is_shown_whole():
    view = torch.rand(3, SIZE, SIZE)
    assert find_place(torch.tensor([0.5, 2.0])) == (2.0, None) and find_place(torch.tensor(3.0)) == (3.0, None)
    assert cut_patch(view, None) is view and cut_patch(view, (0.0, 1.0, 0.25)).equal(view[:, :8, 24:])


def test_fewer_pictures_than_patches():
    one = neuron("0", 0)
    add_patches({"dense": network(), "trace": network()}, [one], OWN, torch.rand(2, 3, SIZE, SIZE).split(1), id)
    assert {name: len(patches) for name, patches in one.patches.items()} == {"dense": 2, "trace": 2}
