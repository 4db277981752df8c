"""Splitting against its definition in the weights' own coordinates, one solved system after the other."""

import pytest
import torch
from test_obs import problem

from spade_cli.pruning.solvers import splitting
from spade_cli.pruning.solvers.damped_hessian import relative_error
from spade_cli.pruning.solvers.elimination import refit
from spade_cli.pruning.solvers.splitting import split


def definition(weight, hessian, budgets):
    """Every weight by its number; the largest are sorted out one by one."""
    groups, rows, columns = weight.shape
    scale = hessian.diagonal(dim1=1, dim2=2).sqrt()
    sparse = weight * scale[:, None]
    dual = torch.zeros_like(sparse)
    count, masks = weight.numel(), []
    for place, budget in enumerate(budgets):
        steps, fall = (splitting.FIRST, splitting.FALL) if place == 0 else (splitting.NEXT, splitting.NEXT // 2)
        before = count
        for step in range(1, steps + 1):
            count = budget + round((before - budget) * max(0.0, 1 - step / fall) ** 3)
            free = torch.zeros_like(sparse)
            for g in range(groups):
                matrix = hessian[g] / scale[g] / scale[g][:, None]
                for r in range(rows):
                    right = matrix @ (weight[g, r] * scale[g]) + splitting.RHO * (sparse - dual)[g, r]
                    free[g, r] = torch.linalg.solve(matrix + splitting.RHO * torch.eye(columns), right)
            values = free + dual
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[sorted(range(weight.numel()), key=lambda i: -abs(float(values.flatten()[i])))[:count]] = True
            mask = mask.view(weight.shape)
            sparse = values * mask
            dual = values - sparse
        masks.append(mask)
    return masks


def test_same_as_the_definition():
    problems = [problem(groups=2, columns=10, seed=seed) for seed in (0, 1)]
    weight, hessian = (torch.stack(one) for one in zip(*problems, strict=True))
    budgets = [30, 17, 5]
    found = [mask for mask, _ in split(weight, hessian, budgets)]
    for image in range(2):
        expected = definition(weight[image].double(), hessian[image], budgets)
        for mask, one in zip(found, expected, strict=True):
            assert torch.equal(mask[image], one)


@pytest.mark.parametrize("budget", [0, 1, 7, 18])
def test_counts_are_exact_even_among_equal_weights(budget):
    weight, hessian = torch.ones(1, 1, 3, 6), torch.eye(6)[None, None]
    ((mask, _),) = split(weight, hessian, [budget])
    assert int(mask.sum()) == budget


def test_chooses_better_than_the_size_of_weights():
    weight, hessian = problem(rows=8, columns=64, observations=100)
    ((mask, worth),) = split(weight[None], hessian[None], [128])
    by_size = (weight.abs() * hessian.diagonal(dim1=1, dim2=2).sqrt()[:, None]).flatten()
    kept = torch.zeros(512, dtype=torch.bool)
    kept[by_size.topk(128).indices] = True
    mine, theirs = (
        relative_error(weight, refit(weight[0], hessian[0], one.view(8, 64))[None], hessian) for one in (mask, kept)
    )
    assert mine < 0.8 * theirs
    assert float(worth[mask].min()) >= float(worth[~mask].max())
