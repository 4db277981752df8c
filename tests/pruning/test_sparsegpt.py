"""SparseGPT against a plain transcription of its definition, and what every pruner must hold to."""

import pytest
import torch
from test_obs import problem

from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.sparsegpt import inverse_factor, sparsegpt
from spade_cli.pruning.solvers.weight_scores import magnitude, random, wanda


def definition(weight, hessian, sparsity, block):
    """Eliminate columns from left to right: the inverse is recomputed for the columns that are left, nothing is lazy or
    factorised.
    """
    w = weight.clone()[0]
    rows, columns = w.shape
    for left in range(0, columns, block):
        count = round(rows * (left + block) * sparsity) - round(rows * left * sparsity)
        scale = [torch.linalg.inv(hessian[0, j:, j:])[0, 0] for j in range(left, left + block)]
        price = w[:, left : left + block] ** 2 / torch.stack(scale)
        chosen = price.flatten().argsort()[:count]
        lost = {(int(i) // block, left + int(i) % block) for i in chosen}
        for j in range(left, left + block):
            inverse = torch.linalg.inv(hessian[0, j:, j:])  # of what is not yet settled
            for row in range(rows):
                if (row, j) in lost:
                    w[row, j:] -= w[row, j] / inverse[0, 0] * inverse[0]
                    w[row, j] = 0
    return w[None]


@pytest.mark.parametrize("block, lazy_width", [(1, 128), (1, 4), (3, 128), (3, 6), (3, 1), (3, 5)])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.9])
def test_same_as_the_definition(block, lazy_width, sparsity):
    weight, hessian = problem(rows=5, columns=12, observations=40)
    found = sparsegpt(weight, hessian, sparsity, block, lazy_width=lazy_width)
    expected = definition(weight, hessian, sparsity, block)
    assert torch.equal(found == 0, expected == 0)
    torch.testing.assert_close(found, expected)


def test_groups_share_the_budget_but_not_the_columns():
    weight, hessian = problem(groups=3, rows=4, columns=6)
    found = sparsegpt(weight, hessian, 0.5, 3)
    assert int((found == 0).sum()) == 36
    alone = sparsegpt(
        weight[1:2] * 1e6, hessian[1:2], 0.5, 3
    )  # a group that outweighs the others loses nothing to them
    crowd = sparsegpt(weight * torch.tensor([1.0, 1e6, 1.0])[:, None, None], hessian, 0.5, 3)
    assert (crowd[1] == 0).sum() < (alone[0] == 0).sum()


@pytest.mark.parametrize("pruner", [forward, magnitude, obs, random, sparsegpt, wanda])
@pytest.mark.parametrize(
    "shape, block", [((1, 10, 16), 1), ((1, 7, 18), 9), ((4, 1, 9), 9), ((1, 1, 1), 1), ((3, 2, 8), 4)]
)
@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.33, 0.55, 0.95, 1.0])
def test_counts_are_exact(pruner, shape, block, sparsity):
    weight, hessian = problem(*shape)
    found = pruner(weight, hessian, sparsity, block)
    unit = block if pruner is obs else 1
    assert int((found == 0).sum()) == round(weight.numel() // unit * sparsity) * unit
    if sparsity == 0:
        assert torch.equal(found, weight) and found.data_ptr() != weight.data_ptr()


@pytest.mark.parametrize("pruner", [forward, obs, sparsegpt])
def test_dead_column_goes_first(pruner):
    weight, hessian = problem(rows=4, columns=6)
    hessian[:, 2], hessian[:, :, 2] = 0, 0
    hessian[:, 2, 2] = 1e-6  # what damping leaves of it
    found = pruner(weight, hessian, 1 / 6, 6 if pruner is sparsegpt else 1)
    assert not found[:, :, 2].any() and (found == 0).sum() == 4


def test_obs_beats_sparsegpt_beats_plain_magnitude():
    weight, hessian = problem(rows=16, columns=32, observations=64)

    def error(pruned):
        return float((((pruned - weight) @ hessian) * (pruned - weight)).sum())

    magnitude = weight * (weight.abs() >= weight.abs().flatten().kthvalue(256).values)
    assert error(obs(weight, hessian, 0.5, 1)) < error(sparsegpt(weight, hessian, 0.5, 1)) < error(magnitude)


def test_factor_is_that_of_the_inverse():
    _, hessian = problem(groups=2)
    upper = inverse_factor(hessian)
    torch.testing.assert_close(upper.mT @ upper, torch.linalg.inv(hessian))
    assert not upper.tril(-1).any()


@pytest.mark.parametrize("pruner", [forward, obs, sparsegpt])
def test_float32_keeps_the_answer_where_inputs_are_few_and_share_a_mean(pruner):
    """Rank 64 of 256, a large common mean, little damping: what post-ReLU features of few samples look like."""
    torch.manual_seed(0)
    x = (torch.randn(64, 256, dtype=torch.double) + 3).relu()
    hessian = (2 / 64 * x.T @ x)[None]
    hessian = hessian + 1e-4 * hessian[0].diagonal().mean() * torch.eye(256, dtype=torch.double)
    weight = torch.randn(1, 16, 256, dtype=torch.double)

    def error(pruned):
        change = pruned.double() - weight
        return float(((change @ hessian) * change).sum())

    exact, single = (
        error(pruner(weight.to(dtype), hessian.to(dtype), 0.9, 1)) for dtype in (torch.double, torch.float)
    )
    assert single < 1.05 * exact
