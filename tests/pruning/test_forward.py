"""Forward selection against the slow definition: try every unit, refit, take the best, repeat."""

import pytest
import torch
from test_obs import best_on_support, loss, problem

from spade_cli.errors import UserError
from spade_cli.pruning.forward import choose, forward
from spade_cli.pruning.obs import obs
from spade_cli.pruning.sparsegpt import sparsegpt


def best_next(w, hessian, columns, unit):
    """The unit that lowers a row's error most when it joins `columns`, and by how much, refitted each time."""
    now = loss(w, best_on_support(w, hessian, columns), hessian)
    gains = {}
    for first in range(0, len(w), unit):
        if first not in columns:
            with_it = columns + list(range(first, first + unit))
            gains[first // unit] = now - loss(w, best_on_support(w, hessian, with_it), hessian)
    best = max(gains, key=gains.get)
    return best, gains[best]


def definition(weight, hessian, staying, unit):
    groups, rows, _ = weight.shape
    every_row, more = divmod(staying, groups * rows)
    kept = {(g, r): [] for g in range(groups) for r in range(rows)}
    for (g, r), mine in kept.items():
        for _ in range(every_row):
            unit_chosen, _ = best_next(weight[g, r], hessian[g], mine, unit)
            mine += range(unit_chosen * unit, (unit_chosen + 1) * unit)
    if more:
        offers = {key: best_next(weight[key], hessian[key[0]], mine, unit) for key, mine in kept.items()}
        for key in sorted(offers, key=lambda key: -offers[key][1])[:more]:
            kept[key] += range(offers[key][0] * unit, (offers[key][0] + 1) * unit)
    result = [[best_on_support(weight[g, r], hessian[g], kept[g, r]) for r in range(rows)] for g in range(groups)]
    return torch.stack([torch.stack(group) for group in result])


@pytest.mark.parametrize("groups, unit", [(1, 1), (1, 3), (2, 1), (2, 2)])
@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8, 1.0])
def test_same_as_the_definition(groups, unit, sparsity):
    for seed in range(3):
        weight, hessian = problem(groups=groups, seed=seed)
        units = weight.numel() // unit
        found = forward(weight, hessian, sparsity, unit, granularity="kernel")
        expected = definition(weight, hessian, units - round(units * sparsity), unit)
        assert torch.equal(found == 0, expected == 0)
        torch.testing.assert_close(found, expected)


def test_gains_are_the_fall_of_the_error():
    weight, hessian = problem(rows=2)
    order, gain = choose(weight[0], torch.zeros(2, dtype=torch.long), hessian, 2, 3)
    for row in range(2):
        columns = []
        for step, unit in enumerate(order[row].tolist()):
            before = loss(weight[0, row], best_on_support(weight[0, row], hessian[0], columns), hessian[0])
            columns += [2 * unit, 2 * unit + 1]
            after = loss(weight[0, row], best_on_support(weight[0, row], hessian[0], columns), hessian[0])
            assert float(gain[row, step]) == pytest.approx(before - after)


def test_batches_of_rows_change_nothing(monkeypatch):
    weight, hessian = problem(groups=2, rows=5)
    together = forward(weight, hessian, 0.6, 2)
    monkeypatch.setattr("spade_cli.pruning.forward.PIVOT_BYTES", 3 * 3 * 6 * 8)  # three rows at a time, across groups
    torch.testing.assert_close(forward(weight, hessian, 0.6, 2), together)


def test_single_weights_are_the_default_granularity():
    weight, hessian = problem()
    assert torch.equal(forward(weight, hessian, 0.5, 3), forward(weight, hessian, 0.5, 1))
    with pytest.raises(UserError, match="kernel or weight"):
        forward(weight, hessian, 0.5, 3, granularity="row")


@pytest.mark.parametrize("unit", [1, 3])
def test_columns_that_are_copies_of_one_another_are_chosen_once(unit):
    """Rank 3, six columns, hardly any damping: what rounding leaves of a copy must not pass for curvature."""
    torch.manual_seed(0)
    x = torch.randn(50, 3).repeat(1, 2)
    hessian = (2 / 50 * x.T @ x + 1e-7 * torch.eye(6))[None]
    weight = torch.randn(1, 8, 6)
    found = forward(weight, hessian, 0.5, unit, granularity="kernel")
    assert torch.isfinite(found).all() and int((found == 0).sum()) == 24
    change = (found - weight).double()
    assert float(((change @ hessian.double()) * change).sum()) < 1e-4, "three columns of the right ones say it all"


def test_float32_chooses_what_float64_does():
    weight, hessian = problem(rows=16, columns=48, observations=60)
    single = forward(weight.float(), hessian.float(), 0.8, 1)
    double = forward(weight, hessian, 0.8, 1)
    assert ((single == 0) == (double == 0)).float().mean() > 0.99


def test_beats_both_published_solvers_where_spade_works():
    """At 95 % of single weights; random inputs with the quickly falling spectrum of real feature maps."""
    torch.manual_seed(0)
    x = torch.randn(800, 128) * torch.linspace(3, 0.1, 128) @ torch.randn(128, 128)
    hessian = (2 / 800 * x.T @ x)[None]
    hessian += 0.01 * hessian[0].diagonal().mean() * torch.eye(128)
    weight = torch.randn(1, 64, 128)

    def error(pruner):
        change = pruner(weight, hessian, 0.95, 1) - weight
        return float(((change @ hessian) * change).sum())

    assert error(forward) < 0.9 * error(sparsegpt) and error(forward) < 1.05 * error(obs)
