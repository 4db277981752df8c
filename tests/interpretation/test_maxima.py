"""Maxima and enlarged maps: DeepLift's slopes by their definition, sums that hold, relevance that is kept."""

import pytest
import torch
from map_networks import ENLARGING, LARGEST, Between
from torch import nn
from zoo import FOUND_AT, picture

from spade_cli import interpretation
from spade_cli.interpretation import explainable
from spade_cli.interpretation.saliency.deeplift_rules import DifferenceRules
from spade_cli.interpretation.saliency.deeplift_slopes import gather_largest

SIZE = 24


@pytest.mark.parametrize("name", ["overlapping windows", "dilated, padded and rounded up", "amax", "max over one axis"])
def test_a_maximum_by_its_definition(name):
    """Output by output: (top - baseline) goes to the image's maximum, (image - top) to the baseline's."""
    pair = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.double).requires_grad_()
    with DifferenceRules():
        output = LARGEST[name](nn.Module(), pair).flatten(1)
    assert torch.allclose(output, LARGEST[name](nn.Module(), pair).flatten(1), rtol=1e-14)
    for unit in range(output.shape[1]):
        plain = torch.autograd.grad(LARGEST[name](nn.Module(), pair).flatten(1)[:, unit].sum(), pair)[0]
        places = [int(one.flatten().argmax()) for one in plain]  # where each of the two has its maximum
        image, baseline = output[:, unit].tolist()
        top = max(image, baseline)
        expected = torch.zeros(50, dtype=torch.double)
        expected[places[0]] += top - baseline
        expected[places[1]] += image - top
        slope = torch.autograd.grad(output[0, unit], pair, retain_graph=True)[0]
        found = (slope[0] * (pair[0] - pair[1])).detach().flatten()
        assert torch.allclose(found, expected, atol=1e-12) and not slope[1].any()


def test_where_nothing_changes_a_maximum_passes_its_gradient():
    pair = torch.tensor([[[1.0, 5.0, 2.0]], [[0.0, 5.0, 3.0]]], requires_grad=True)
    with DifferenceRules():
        output = pair.amax(2)
    assert torch.autograd.grad(output[0, 0], pair)[0].tolist() == [[[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]]


@pytest.mark.parametrize("between", [*LARGEST.values(), *ENLARGING.values()], ids=[*LARGEST, *ENLARGING])
def test_sums_hold(between):
    network, image = Between(between).eval(), picture(SIZE)
    safe = explainable(network, image)
    assert safe.reason is None
    for target in range(2):
        answer = network(image)[0, target].item()
        lift = interpretation.deeplift(safe, image, target)
        assert lift.map.sum().item() == pytest.approx(answer, rel=1e-3) and lift.warnings == ()  # of black: 0
        relevance = interpretation.lrp(safe, image, target)
        assert relevance.checks["followed"] == pytest.approx(1, abs=1e-5)
        assert relevance.map.sum().item() == pytest.approx(answer, rel=1e-4)


def test_deeplift_of_maxima_between_two_pictures_that_both_respond():
    """With biases, the baseline has maxima of its own, elsewhere."""
    for between in LARGEST.values():
        network, image = Between(between).eval(), picture(SIZE)
        network.stem.bias = nn.Parameter(torch.linspace(-1, 2, 8))
        found = interpretation.deeplift(explainable(network, image), image, FOUND_AT)
        difference = (network(image) - network(0 * image))[0, FOUND_AT].item()
        assert found.map.sum().item() == pytest.approx(difference, rel=1e-3) and found.warnings == ()


def test_relevance_of_what_was_copied_goes_back_to_what_it_was_copied_of():
    """Enlarging by copies, then averaging, is averaging; of PixelShuffle nothing but the order changes."""
    image = picture(SIZE)
    maps = [
        interpretation.lrp(explainable(Between(between).eval(), image), image, FOUND_AT).map
        for between in (
            lambda m, x: x.mean((2, 3)),
            lambda m, x: nn.functional.interpolate(x, scale_factor=2).mean((2, 3)),
            lambda m, x: nn.functional.pixel_unshuffle(nn.functional.pixel_shuffle(x, 2), 2).mean((2, 3)),
        )
    ]
    assert all(torch.allclose(one, maps[0], atol=1e-6) for one in maps) and maps[0].abs().max() > 0


def test_the_slope_of_a_maximum_holds_where_only_one_of_its_two_places_changed():
    x = torch.tensor([[3.0, 1.0], [0.0, 1.0]], requires_grad=True)  # image, baseline: the largest is elsewhere
    output = gather_largest(x, x.argmax(1, keepdim=True))
    assert output.tolist() == [[3.0], [1.0]]
    (slope,) = torch.autograd.grad(output[0].sum(), x)
    assert float((slope[0] * (x[0] - x[1])).sum()) == pytest.approx(2)
