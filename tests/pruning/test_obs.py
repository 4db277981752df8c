"""Exact OBS against the slow definition: try every single removal on every row, refit, take the cheapest, repeat."""

from importlib import import_module

import pytest
import torch

from spade_cli.errors import UserError
from spade_cli.pruning.solvers import elimination
from spade_cli.pruning.solvers.elimination import invert, refit, removal_order, spend, threshold
from spade_cli.pruning.solvers.obs import obs


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
    monkeypatch.setattr(
        import_module("spade_cli.pruning.solvers.obs"), "WORK_BYTES", 2 * 2 * 6 * 6 * 8
    )  # two rows at a time
    torch.testing.assert_close(obs(weight, hessian, 0.6, 2), together)


@pytest.mark.parametrize("unit", [1, 3])
def test_blocks_and_compaction_change_nothing(unit, monkeypatch):
    """As plain as can be, every elimination applied at once and nothing cut out, against blocks of any width."""
    weight, hessian = problem(rows=5, columns=24, observations=60)
    inverse = torch.linalg.inv(hessian[0])
    monkeypatch.setattr(elimination, "BLOCK", 1)
    monkeypatch.setattr(elimination, "KERNEL_BLOCK", 1)
    monkeypatch.setattr(elimination, "COMPACT", 0)
    plain = removal_order(weight[0], inverse, unit)
    for width, compact in [(1, 1), (7, 0.8), (7, 1), (100, 0.8)]:
        monkeypatch.setattr(elimination, "BLOCK", width)
        monkeypatch.setattr(elimination, "KERNEL_BLOCK", width)
        monkeypatch.setattr(elimination, "COMPACT", compact)
        order, cost = removal_order(weight[0], inverse, unit)
        assert torch.equal(order, plain[0])
        torch.testing.assert_close(cost, plain[1])


@pytest.mark.parametrize("unit", [1, 3])
def test_search_ends_once_the_budget_is_found(unit, monkeypatch):
    weight, hessian = problem(rows=6, columns=48, observations=90)
    weight[0, :3] *= 30  # rows that lose little, rows that lose much
    monkeypatch.setattr(elimination, "BLOCK", 6)
    monkeypatch.setattr(elimination, "KERNEL_BLOCK", 6)
    inverse = torch.linalg.inv(hessian[0])
    whole = removal_order(weight[0], inverse, unit)
    budget = whole[1].numel() // 5
    found = removal_order(weight[0], inverse, unit, budget)
    assert found[1].isinf().any(), "it did not end early"
    assert torch.equal(spend(*found, budget), spend(*whole, budget))
    limit = threshold(whole[1], budget)
    again = removal_order(weight[0, :3], inverse, unit, budget, limit)  # what other rows offered is known
    assert torch.equal(spend(*again, 3)[:3], spend(*(part[:3] for part in whole), 3))


def test_inverse_is_exact_where_float32_is_not():
    """A variance inflation of 1e6: float32 would leave no digit of what the last eliminations decide on."""
    good = problem(columns=6)[1]
    assert invert(good).dtype == torch.float32
    bad = torch.eye(6, dtype=torch.double)[None].clone()
    bad[0, 0, 1] = bad[0, 1, 0] = 1 - 1e-6
    assert invert(bad).dtype == torch.float64
    torch.testing.assert_close(invert(bad), torch.linalg.inv(bad))


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
        monkeypatch.setattr("spade_cli.pruning.solvers.elimination.SOLVE_BYTES", memory)
    weight, hessian = problem(rows=12)
    kept = torch.rand(12, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    kept[0], kept[1] = True, False
    found = refit(weight[0], hessian[0], kept)
    expected = torch.stack(
        [best_on_support(w, hessian[0], k.nonzero().flatten().tolist()) for w, k in zip(weight[0], kept, strict=True)]
    )
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[0], weight[0, 0]) and not found[~kept].any()


def test_refit_in_float32_has_the_error_of_float64():
    weight, hessian = problem(rows=12, columns=48, observations=90)
    kept = torch.rand(12, 48, generator=torch.Generator().manual_seed(1)) < 0.5
    exact = refit(weight[0], hessian[0], kept)
    single = refit(weight[0], hessian[0].float(), kept)
    errors = [float((((one - weight[0]) @ hessian[0]) * (one - weight[0])).sum()) for one in (exact, single)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-5) and not torch.equal(exact, single)


def test_refit_is_exact_where_float32_is_not():
    matrix = torch.eye(6)
    matrix[0, 1] = matrix[1, 0] = 1 - 1e-6
    weight, kept = torch.ones(1, 6, dtype=torch.double), torch.tensor([[True, True, True, False, False, False]])
    torch.testing.assert_close(refit(weight, matrix, kept), refit(weight, matrix.double(), kept))
