"""Insertion, deletion and SRG: the curves are what a loop over points and pixels gives; the 0 % point; ties."""

import math
from itertools import pairwise

import pytest
import torch
from networks import small

from spade_cli.evaluation.measures.insertion import area, blur, curve, order, symmetric_relevance_gain


def picture() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return small(), torch.randn(1, 3, 12, 12)


@pytest.mark.parametrize("kind", ["insertion", "deletion"])
@pytest.mark.parametrize("blurred", [False, True])
def test_a_curve_is_what_its_definition_says(kind: str, blurred: bool) -> None:
    network, x = picture()
    fill = blur(x) if blurred else torch.zeros_like(x)
    relevance = torch.randn(2, 12, 12)
    found = curve(network, x, 3, relevance, kind, batch_size=7, fill=fill if blurred else None)
    with torch.no_grad():
        full = network(x).softmax(1)[0, 3].item()
        for one, said in zip(relevance, found.tolist(), strict=True):
            ranked = sorted((-one[i, j].item(), i, j) for i in range(12) for j in range(12))
            for percent in range(100):
                top = {(i, j) for _, i, j in ranked[: round(144 * percent / 100)]}
                seen = x.clone()
                for i in range(12):
                    for j in range(12):
                        if ((i, j) in top) == (kind == "deletion"):
                            seen[0, :, i, j] = fill[0, :, i, j]
                expected = min(1.0, network(seen).softmax(1)[0, 3].item() / full)
                assert said[percent] == pytest.approx(expected, abs=1e-5)


def test_deletion_starts_from_the_full_picture_and_insertion_from_none_of_it() -> None:
    network, x = picture()
    with torch.no_grad():
        nothing = (network(torch.zeros_like(x)).softmax(1) / network(x).softmax(1))[0, 1].clamp(0, 1)
    relevance = torch.randn(1, 12, 12)
    assert curve(network, x, 1, relevance, "deletion")[0, 0] == pytest.approx(
        1, abs=1e-6
    )  # rounding depends on the batch
    assert curve(network, x, 1, relevance, "insertion")[0, 0].item() == pytest.approx(nothing.item(), abs=1e-6)
    with pytest.raises(ValueError, match="insertion and deletion"):
        curve(network, x, 1, relevance, "both")


def test_a_blur_is_the_mean_under_a_normal_curve_of_a_twentieth_of_a_side() -> None:
    x = torch.randn(1, 3, 40, 40)
    found = blur(x)
    weights = [math.exp(-((step / 2) ** 2) / 2) for step in range(-6, 7)]  # a deviation of 2 pixels, cut at three
    expected = 0.0
    for i, down in enumerate(weights):
        for j, across in enumerate(weights):
            expected += down * across / sum(weights) ** 2 * x[0, 1, 20 + i - 6, 20 + j - 6].item()
    assert found.shape == x.shape and found[0, 1, 20, 20].item() == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(blur(torch.full_like(x, 3)), torch.full_like(x, 3), atol=1e-5)


def test_area_is_a_trapezoid_from_0_to_1() -> None:
    assert area(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.0]])).tolist() == [1.0, 0.5, 0.25]


def test_symmetric_relevance_gain_is_that_of_two_deletions() -> None:
    network, x = picture()
    relevance = torch.randn(1, 12, 12)
    areas = []
    with torch.no_grad():
        full = network(x).softmax(1)[0, 3].item()
        for sign in (1, -1):  # the least relevant pixels first, then the most relevant ones
            ranked = sorted((sign * relevance[0, i, j].item(), i, j) for i in range(12) for j in range(12))
            confidences = []
            for percent in range(100):
                seen = x.clone()
                for _, i, j in ranked[: round(144 * percent / 100)]:
                    seen[0, :, i, j] = 0
                confidences.append(min(1.0, network(seen).softmax(1)[0, 3].item() / full))
            areas.append(sum((a + b) / 2 for a, b in pairwise(confidences)) / 99)
    both = {kind: curve(network, x, 3, relevance, kind) for kind in ("insertion", "deletion")}
    found = symmetric_relevance_gain(**both)
    assert found.shape == (1,) and found.item() == pytest.approx(areas[0] - areas[1], abs=1e-5)
    assert abs(areas[0] - areas[1]) > 1e-3


def test_equal_values_come_in_no_order_of_place() -> None:
    places = order(torch.zeros(1, 400), seed=0)[0]
    assert sorted(places.tolist()) == list(range(400)) and places.tolist() != list(range(400))
    assert 5 < places[:20].float().mean() / 20 < 15  # the first pixels are neither first nor last
    assert order(torch.zeros(1, 400), seed=0)[0].equal(places)
    assert order(torch.tensor([[1.0, 3.0, 2.0]]), 0).tolist() == [[2, 0, 1]]
