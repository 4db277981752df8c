"""Forward selection against the slow definition: try every unit, refit, take the best, repeat."""

import math
from functools import partial
from importlib import import_module

import pytest
import torch
from test_obs import best_on_support, loss, problem

from spade_cli.errors import UserError
from spade_cli.pruning.solvers import selection, surplus
from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.pruner import ladder
from spade_cli.pruning.solvers.sparsegpt import sparsegpt

module = import_module("spade_cli.pruning.solvers.forward")  # the name `forward` is the function


LADDER = (0.99, 0.98, 0.97, 0.95, 0.93, 0.9)


def error(found, weight, hessian):
    change = (found - weight).double()
    return float(((change @ hessian.double()) * change).sum())


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


def definition(weight, hessian, staying, unit, picks):
    """Every row takes `picks` units one by one; then the cheapest of any row goes until `staying` are left."""
    groups, rows, _ = weight.shape
    kept = {(g, r): [] for g in range(groups) for r in range(rows)}
    for (g, r), mine in kept.items():
        for _ in range(picks):
            unit_chosen, _ = best_next(weight[g, r], hessian[g], mine, unit)
            mine += range(unit_chosen * unit, (unit_chosen + 1) * unit)
    while sum(len(mine) for mine in kept.values()) > staying * unit:
        best = None
        for (g, r), mine in kept.items():
            now = loss(weight[g, r], best_on_support(weight[g, r], hessian[g], mine), hessian[g])
            for first in sorted({column // unit * unit for column in mine}):
                rest = [column for column in mine if not first <= column < first + unit]
                rise = loss(weight[g, r], best_on_support(weight[g, r], hessian[g], rest), hessian[g]) - now
                if best is None or rise < best[0]:
                    best = (rise, (g, r), rest)
        kept[best[1]] = best[2]
    result = [[best_on_support(weight[g, r], hessian[g], kept[g, r]) for r in range(rows)] for g in range(groups)]
    return torch.stack([torch.stack(group) for group in result])


@pytest.fixture
def choosing(monkeypatch):
    """Small layers choose as wide ones do: two units more than the mean that stays, one by one, never by OBS."""
    monkeypatch.setattr(module, "SURPLUS", 0)
    monkeypatch.setattr(module, "LEAST_SURPLUS", 2)
    monkeypatch.setattr(module, "BACKWARD_FROM", 2)
    monkeypatch.setattr(module, "SPLIT_FROM", math.inf)
    monkeypatch.setattr(surplus, "MOST_ROUNDS", 0)


@pytest.mark.parametrize("at_once", [1, 4])  # units picked between two whole updates
@pytest.mark.parametrize("groups, unit", [(1, 1), (1, 3), (2, 1), (2, 2)])
@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.8, 0.95])
def test_same_as_the_definition(groups, unit, sparsity, at_once, choosing, monkeypatch):
    if at_once > 1:  # with every unit a candidate, several picks at once are the same as one by one
        monkeypatch.setattr(selection, "PICKS_PER_PICKED", at_once)
        monkeypatch.setattr(selection, "CANDIDATES", 100)
    for seed in range(2):
        weight, hessian = problem(groups=groups, columns=12, seed=seed)
        units = weight.numel() // unit
        staying = units - round(units * sparsity)
        picks = min(12 // unit, math.ceil(staying / (3 * groups)) + 2)
        found = forward(weight, hessian, sparsity, unit, granularity="kernel")
        expected = definition(weight, hessian, staying, unit, picks)
        assert torch.equal(found == 0, expected == 0)
        torch.testing.assert_close(found, expected)


def test_a_pruner_without_a_ladder_is_called_for_each_share():
    weight, hessian = problem(columns=12)
    bound = partial(obs, granularity="weight")
    found = ladder(bound, weight, hessian, [0.9, 0.0, 0.5], 3)
    for share, one in zip([0.9, 0.0, 0.5], found, strict=True):
        assert torch.equal(one, bound(weight, hessian, share, 3))
    assert ladder(obs, weight, hessian, [], 3) == []


@pytest.mark.parametrize("settings", [dict(), dict(budget="row"), dict(granularity="kernel")])
def test_a_ladder_is_the_same_as_separate_calls(settings, choosing, monkeypatch):
    monkeypatch.setattr(module, "SHARED", 2.0)  # an order of removal for each share
    weight, hessian = problem(groups=2, rows=4, columns=24, observations=40)
    shares = [0.9, 0.0, 0.75, 0.8, 0.9, 1.0]
    found = ladder(partial(forward, **settings), weight, hessian, shares, 2)
    for share, one in zip(shares, found, strict=True):
        torch.testing.assert_close(one, forward(weight, hessian, share, 2, **settings))


def test_a_ladder_of_several_images_is_that_of_each():
    problems = [problem(rows=6, columns=48, observations=60, seed=seed) for seed in range(2)]
    weight, hessian = (torch.stack(one) for one in zip(*problems, strict=True))
    together = ladder(forward, weight, hessian, LADDER, 1)
    for image, one in enumerate(problems):
        for found, alone in zip(together, ladder(forward, *one, LADDER, 1), strict=True):
            torch.testing.assert_close(found[image], alone)


@pytest.mark.parametrize("wide", [False, True])
def test_shares_that_are_solved_together_lose_next_to_nothing(wide, monkeypatch):
    if wide:  # no surplus, and the state of one share is where the next begins
        monkeypatch.setattr(module, "SURE_FROM", 128)
        monkeypatch.setattr(module, "SPLIT_WIDE_FROM", 0)
    ratios = []
    for seed in range(3):
        weight, hessian = problem(rows=16, columns=256, observations=400, seed=seed)
        for share, found in zip(LADDER, ladder(forward, weight, hessian, LADDER, 1), strict=True):
            assert int((found == 0).sum()) == round(4096 * share)
            ratios.append(error(found, weight, hessian) / error(forward(weight, hessian, share, 1), weight, hessian))
    assert sum(ratios) / len(ratios) < 1.005


def test_gains_are_the_fall_of_the_error():
    weight, hessian = problem(rows=2)
    order, gain = selection.select(weight[0] @ hessian[0], torch.zeros(2, dtype=torch.long), hessian, 2, 3)
    for row in range(2):
        columns = []
        for step, unit in enumerate(order[row].tolist()):
            before = loss(weight[0, row], best_on_support(weight[0, row], hessian[0], columns), hessian[0])
            columns += [2 * unit, 2 * unit + 1]
            after = loss(weight[0, row], best_on_support(weight[0, row], hessian[0], columns), hessian[0])
            assert float(gain[row, step]) == pytest.approx(before - after)


def test_several_picks_at_once_cost_next_to_nothing(monkeypatch):
    monkeypatch.setattr(module, "SPLIT_FROM", math.inf)
    problems = [problem(rows=16, columns=256, observations=400, seed=seed) for seed in range(3)]
    several = sum(error(forward(*one, 0.8, 1), *one) for one in problems)
    monkeypatch.setattr(selection, "PICKS_PER_PICKED", 0)
    one_by_one = sum(error(forward(*one, 0.8, 1), *one) for one in problems)
    assert several != one_by_one and several < 1.03 * one_by_one


@pytest.mark.parametrize("unit", [1, 4])
def test_screened_rows_choose_among_their_heaviest_units(unit, choosing, monkeypatch):
    weight, hessian = problem(groups=2, rows=4, columns=32, observations=80)
    monkeypatch.setattr(module, "SCREENED_FROM", 32)
    monkeypatch.setattr(module, "SPLIT_WIDE_FROM", math.inf)
    found = forward(weight, hessian, 0.75, unit, granularity="kernel") != 0
    loads = (weight**2 * hessian.diagonal(dim1=1, dim2=2)[:, None]).unflatten(2, (-1, unit)).sum(3)
    heavy = loads.argsort(dim=2, descending=True)[:, :, : 16 // unit]
    allowed = torch.zeros_like(loads, dtype=torch.bool).scatter_(2, heavy, True).repeat_interleave(unit, 2)
    assert not (found & ~allowed).any()
    monkeypatch.setattr(module, "SCREEN", 1.0)  # every unit: the same as no screening
    everything = forward(weight, hessian, 0.75, unit, granularity="kernel")
    monkeypatch.setattr(module, "SCREENED_FROM", 1000)
    torch.testing.assert_close(everything, forward(weight, hessian, 0.75, unit, granularity="kernel"))


def test_batches_of_rows_change_nothing(choosing, monkeypatch):
    weight, hessian = problem(groups=2, rows=5, columns=12)
    together = {budget: forward(weight, hessian, 0.6, 2, budget=budget) for budget in ("layer", "row")}
    for place in (module, surplus):
        monkeypatch.setattr(place, "WORK_BYTES", 4 * 7 * 7 * 8 * 3)  # three rows at a time, across groups
    for budget, expected in together.items():
        torch.testing.assert_close(forward(weight, hessian, 0.6, 2, budget=budget), expected)


def test_budget_of_a_row_is_that_of_every_row(choosing):
    weight, hessian = problem(groups=2, rows=5, columns=12)
    weight[0] *= 100  # rows that explain more than the others
    by_row = (forward(weight, hessian, 0.7, 1, budget="row") != 0).sum(2).flatten()
    assert int(by_row.sum()) == 120 - 84 and set(by_row.tolist()) == {3, 4}
    assert set(by_row[:5].tolist()) == {4}, "what does not divide goes where there is most to lose"
    by_layer = (forward(weight, hessian, 0.7, 1) != 0).sum(2)
    assert by_layer[0].sum() > by_layer[1].sum()
    with pytest.raises(UserError, match="layer or row"):
        forward(weight, hessian, 0.7, 1, budget="column")


@pytest.mark.parametrize("unit", [1, 3])
@pytest.mark.parametrize("exact_up_to", [640, 0])
def test_where_most_units_stay_they_are_removed_as_obs_does(unit, exact_up_to, monkeypatch):
    monkeypatch.setattr(module, "EXACT_UP_TO", exact_up_to)
    monkeypatch.setattr(selection, "CANDIDATES", 100)  # so that several at a time are the same as one by one
    weight, hessian = problem(groups=2, rows=6, columns=48, observations=90)
    expected = obs(weight, hessian, 0.2, unit)
    torch.testing.assert_close(forward(weight, hessian, 0.2, unit, granularity="kernel"), expected)


def test_removing_several_at_a_time_costs_next_to_nothing(monkeypatch):
    monkeypatch.setattr(module, "EXACT_UP_TO", 0)
    weight, hessian = problem(rows=16, columns=256, observations=400)
    exact = error(obs(weight, hessian, 0.4, 1), weight, hessian)
    assert error(forward(weight, hessian, 0.4, 1), weight, hessian) < 1.01 * exact


def test_single_weights_are_the_default_granularity():
    weight, hessian = problem()
    assert torch.equal(forward(weight, hessian, 0.5, 3), forward(weight, hessian, 0.5, 1))
    with pytest.raises(UserError, match="kernel or weight"):
        forward(weight, hessian, 0.5, 3, granularity="row")


@pytest.mark.parametrize("unit", [1, 3])
def test_columns_that_are_copies_of_one_another_are_chosen_once(unit, choosing):
    """Rank 3, six columns, hardly any damping: what rounding leaves of a copy must not pass for curvature."""
    torch.manual_seed(0)
    x = torch.randn(50, 3).repeat(1, 2)
    hessian = (2 / 50 * x.T @ x + 1e-6 * torch.eye(6))[None]
    weight = torch.randn(1, 8, 6)
    found = forward(weight, hessian, 0.5, unit, granularity="kernel")
    assert torch.isfinite(found).all() and int((found == 0).sum()) == 24
    assert error(found, weight, hessian) < 1e-4, "three columns of the right ones say it all"


def test_float32_chooses_what_float64_does(choosing):
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

    mine, theirs, exact = (
        error(pruner(weight, hessian, 0.95, 1), weight, hessian) for pruner in (forward, sparsegpt, obs)
    )
    assert mine < 0.9 * theirs and mine < 1.02 * exact
