"""Exact OBS against the slow definition: try every single removal on every row, refit, take the cheapest, repeat."""

import pytest
import torch

from spade_cli.errors import UserError
from spade_cli.pruning.elimination import refit
from spade_cli.pruning.obs import obs, removal_order


def problem(groups=1, rows=3, columns=6, seed=0, observations=20):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, observations, columns, generator=generator, dtype=torch.double)
    x = x @ torch.randn(columns, columns, generator=generator, dtype=torch.double)  # correlated inputs
    weight = torch.randn(groups, rows, columns, generator=generator, dtype=torch.double)
    return weight, 2 / observations * x.mT @ x


def best_on_support(w, hessian, kept):
    """argmin ||w' X - w X||^2 with w' zero outside `kept`, one row, by the normal equations."""
    result = torch.zeros_like(w)
    if kept:
        system = hessian[kept][:, kept]
        result[kept] = torch.linalg.solve(system, hessian[kept] @ w)
    return result


def loss(w, v, hessian):
    return float((w - v) @ hessian @ (w - v))


def brute_force(weight, hessian, removals, unit):
    """Remove units one at a time over the whole layer, each time the one whose removal (with refit) raises the error
    least.
    """
    groups, rows, columns = weight.shape
    kept = {(g, r): list(range(columns)) for g in range(groups) for r in range(rows)}
    for _ in range(removals):
        best = None
        for (g, r), columns_kept in kept.items():
            now = loss(weight[g, r], best_on_support(weight[g, r], hessian[g], columns_kept), hessian[g])
            for first in sorted({column // unit * unit for column in columns_kept}):
                rest = [column for column in columns_kept if not first <= column < first + unit]
                after = loss(weight[g, r], best_on_support(weight[g, r], hessian[g], rest), hessian[g])
                if best is None or after - now < best[0]:
                    best = (after - now, (g, r), rest)
        kept[best[1]] = best[2]
    return torch.stack(
        [
            torch.stack([best_on_support(weight[g, r], hessian[g], kept[g, r]) for r in range(rows)])
            for g in range(groups)
        ]
    )


@pytest.mark.parametrize("groups, unit", [(1, 1), (1, 3), (2, 1), (2, 2)])
@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8, 1.0])
def test_same_as_brute_force(groups, unit, sparsity):
    for seed in range(3):
        weight, hessian = problem(groups=groups, seed=seed)
        found = obs(weight, hessian, sparsity, unit)
        expected = brute_force(weight, hessian, round(weight.numel() // unit * sparsity), unit)
        assert torch.equal(found == 0, expected == 0)
        torch.testing.assert_close(found, expected)


def test_costs_are_the_rise_of_the_error():
    weight, hessian = problem(rows=2)
    order, cost = removal_order(weight[0], torch.linalg.inv(hessian[0]), 2)
    for row in range(2):
        kept = list(range(6))
        for step, unit in enumerate(order[row].tolist()):
            before = loss(weight[0, row], best_on_support(weight[0, row], hessian[0], kept), hessian[0])
            kept = [column for column in kept if column // 2 != unit]
            after = loss(weight[0, row], best_on_support(weight[0, row], hessian[0], kept), hessian[0])
            assert float(cost[row, step]) == pytest.approx(after - before)


def test_weight_granularity_ignores_the_kernels():
    weight, hessian = problem()
    assert torch.equal(obs(weight, hessian, 0.5, 3, granularity="weight"), obs(weight, hessian, 0.5, 1))
    whole = obs(weight, hessian, 0.5, 3, granularity="kernel").reshape(-1, 3) == 0
    assert torch.equal(whole.any(1), whole.all(1))


def test_batches_of_rows_change_nothing(monkeypatch):
    weight, hessian = problem(rows=7)
    together = obs(weight, hessian, 0.6, 2)
    monkeypatch.setattr("spade_cli.pruning.obs.PIVOT_BYTES", 2 * 6 * 6 * 8)  # two rows at a time
    torch.testing.assert_close(obs(weight, hessian, 0.6, 2), together)


def test_keeps_the_dtype_and_the_input():
    weight, hessian = problem()
    before = weight.clone()
    assert obs(weight.float(), hessian.float(), 0.5, 1).dtype == torch.float32
    obs(weight, hessian, 0.5, 1)
    assert torch.equal(weight, before)


def test_unknown_granularity_is_the_users_mistake():
    with pytest.raises(UserError, match="kernel or weight"):
        obs(*problem(), 0.5, 1, granularity="channel")


@pytest.mark.parametrize("memory", [None, 1])  # all rows at once, and one at a time
def test_refit_solves_the_normal_equations_on_any_support(memory, monkeypatch):
    if memory:
        monkeypatch.setattr("spade_cli.pruning.elimination.SOLVE_BYTES", memory)
    weight, hessian = problem(rows=12)
    kept = torch.rand(12, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    kept[0], kept[1] = True, False
    found = refit(weight[0], hessian[0], kept)
    expected = torch.stack(
        [best_on_support(w, hessian[0], k.nonzero().flatten().tolist()) for w, k in zip(weight[0], kept, strict=True)]
    )
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[0], weight[0, 0]) and not found[~kept].any()
