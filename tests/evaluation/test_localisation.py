"""Measures against a mask: each is what its definition, written slowly, says; ties and limits."""

import itertools

import pytest
import torch

from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation.measures.aggregation import AGGREGATIONS, aggregate
from spade_cli.evaluation.measures.localisation import (
    grow_masks,
    mass_inside,
    pointing_game,
    rank_accuracy,
    ranks,
    roc_auc,
)
from spade_cli.interpretation import METHODS


def maps(ties: bool, n: int = 4, side: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    relevance = torch.randn(n, side, side, generator=generator)
    masks = torch.rand(n, side, side, generator=generator) < 0.3
    return (relevance.round() if ties else relevance), masks


@pytest.mark.parametrize("ties", [False, True])
def test_roc_auc_counts_the_pairs_that_are_right(ties: bool) -> None:
    relevance, masks = maps(ties)
    for one, mask, found in zip(relevance, masks, roc_auc(relevance, masks), strict=True):
        pairs = [(a, b) for a in one[mask].tolist() for b in one[~mask].tolist()]
        assert found == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))


def test_roc_auc_limits() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2] = True
    assert roc_auc(mask.float(), mask) == 1 and roc_auc(-mask.float(), mask) == 0
    assert roc_auc(torch.zeros(1, 4, 4), mask) == 0.5
    for bad in (torch.zeros_like(mask), torch.ones_like(mask)):
        with pytest.raises(SpadeError, match="covers nothing, or everything"):
            roc_auc(mask.float(), bad)
    with pytest.raises(ValueError, match="of the same shape"):
        roc_auc(torch.zeros(1, 4, 5), mask)


def test_ranks_share_the_mean_of_equal_ones() -> None:
    assert ranks(torch.tensor([[3.0, 1.0, 3.0, 0.0]])).tolist() == [[3.5, 2.0, 3.5, 1.0]]


def test_mass_inside_is_a_share_of_what_is_positive() -> None:
    relevance, masks = maps(ties=False)
    for one, mask, found in zip(relevance, masks, mass_inside(relevance, masks), strict=True):
        positive = [value for value in one.flatten().tolist() if value > 0]
        assert found == pytest.approx(sum(value for value in one[mask].tolist() if value > 0) / sum(positive))
    assert mass_inside(-masks.float(), masks).tolist() == [0.0] * 4


@pytest.mark.parametrize("ties", [False, True])
def test_rank_accuracy_is_the_mean_over_all_orders_of_equal_values(ties: bool) -> None:
    relevance = torch.tensor([[[3.0, 1.0, 1.0], [0.0, 1.0, -1.0]]]) if ties else torch.randn(1, 2, 3)
    mask = torch.tensor([[[True, True, False], [False, False, True]]])
    values, inside = relevance.flatten().tolist(), mask.flatten().tolist()
    shares = []
    for order in itertools.permutations(range(6)):
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order)):
            shares.append(sum(inside[i] for i in order[:3]) / 3)
    assert rank_accuracy(relevance, mask).item() == pytest.approx(sum(shares) / len(shares))
    assert rank_accuracy(mask.float(), mask).item() == 1


def test_pointing_game_measures_the_distance_to_the_nearest_pixel_of_the_mask() -> None:
    relevance, masks = maps(ties=False, n=20, side=9)
    masks &= torch.rand(masks.shape, generator=torch.Generator().manual_seed(5)) < 0.1
    masks[:, 0, 0] = True
    for tolerance in (0, 1, 2, 3):
        for one, mask, found in zip(relevance, masks, pointing_game(relevance, masks, tolerance), strict=True):
            row, column = divmod(int(one.argmax()), 9)
            nearest = min(((row - i) ** 2 + (column - j) ** 2) ** 0.5 for i, j in mask.nonzero().tolist())
            assert found == float(nearest <= tolerance)
    assert grow_masks(masks, 0).equal(masks)


def test_pointing_game_counts_the_share_of_equal_maxima_that_hit() -> None:
    mask = torch.tensor([[[True, False, False, False]]])
    assert pointing_game(torch.tensor([[[1.0, 1.0, 1.0, 1.0]]]), mask, 1).item() == 0.5


def test_every_method_has_one_aggregation() -> None:
    assert list(AGGREGATIONS) == list(METHODS)
    raw = torch.tensor([[[1.0]], [[-3.0]], [[1.0]]])
    assert aggregate(raw, "signed").item() == -1 and aggregate(raw, "absolute").item() == 5
    assert aggregate(raw.expand(2, 3, 4, 5), "signed").shape == (2, 4, 5)
    with pytest.raises(UserError, match="signed and absolute"):
        aggregate(raw, "squared")
