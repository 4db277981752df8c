"""Rounds of exchange against the slow definition: every gain and every removal by a refit."""

from importlib import import_module

import pytest
import torch
from test_obs import best_on_support, loss, problem

from spade_cli.pruning.solvers import surplus
from spade_cli.pruning.solvers.damped_hessian import damp, relative_error
from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.surplus import Layer, exchange, thin

module = import_module("spade_cli.pruning.solvers.forward")


def one_round(weight, hessian, kept):
    return exchange(Layer.of(weight, hessian, 1), kept, torch.full((len(kept),), 100), 1)


def random_support(weight, staying, seed=0):
    rows = weight.shape[0] * weight.shape[1]
    order = torch.rand(rows * weight.shape[2], generator=torch.Generator().manual_seed(seed)).argsort()
    kept = torch.zeros(rows * weight.shape[2], dtype=torch.bool)
    kept[order[:staying]] = True
    return kept.view(rows, weight.shape[2])


def error_of(weight, hessian, kept):
    groups, rows, _ = weight.shape
    return sum(
        loss(weight[g, r], best_on_support(weight[g, r], hessian[g], kept[g * rows + r].nonzero().flatten().tolist()),
             hessian[g])
        for g in range(groups)
        for r in range(rows)
    )  # fmt: skip


def swap_one_by_one(weight, hessian, kept, extra):
    """Every row takes in its `extra` best weights, by trying each; then the layer's cheapest go, by trying each."""
    wide = kept.clone()
    for row in range(len(kept)):
        now, gains = error_of(weight, hessian, kept), {}
        for column in (~kept[row]).nonzero().flatten().tolist():
            trial = kept.clone()
            trial[row, column] = True
            gains[column] = now - error_of(weight, hessian, trial)
        wide[row, sorted(gains, key=gains.get, reverse=True)[:extra]] = True
    while int(wide.sum()) > int(kept.sum()):
        errors = {}
        for row, column in wide.nonzero().tolist():
            trial = wide.clone()
            trial[row, column] = False
            errors[row, column] = error_of(weight, hessian, trial)
        wide[min(errors, key=errors.get)] = False
    return wide if error_of(weight, hessian, wide) <= error_of(weight, hessian, kept) else kept


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("extra", [1, 2])
def test_an_exchange_is_the_best_swap_of_all_that_can_be_tried(groups, extra, monkeypatch):
    monkeypatch.setattr(surplus, "EXCHANGE", 0)
    monkeypatch.setattr(surplus, "MOST_ROUNDS", 1)
    monkeypatch.setattr(surplus, "NARROWER", 1.0)  # no row is offered more because another is
    monkeypatch.setattr(surplus, "LEAST_EXCHANGE", extra)
    for seed in range(3):
        weight, hessian = problem(groups=groups, rows=2, columns=7, seed=seed)
        kept = random_support(weight, 9 * groups, seed)
        found = one_round(weight, hessian, kept)
        expected = swap_one_by_one(weight, hessian, kept, extra)
        assert torch.equal(found.flatten(0, 1) != 0, expected)


@pytest.mark.parametrize("good", [True, False])
def test_the_error_never_rises_by_a_round(good):
    for seed in range(10):
        weight, hessian = problem(groups=2, rows=6, columns=20, seed=seed, observations=25)
        kept = forward(weight, hessian, 0.7, 1).flatten(0, 1) != 0 if good else random_support(weight, 72, seed)
        before = error_of(weight, hessian, kept)
        for _ in range(3):
            fitted = one_round(weight, hessian, kept)
            assert int((fitted != 0).sum()) == 72
            after = relative_error(weight, fitted, hessian) * float(((weight @ hessian) * weight).sum())
            assert after <= before * (1 + 1e-9)
            kept, before = fitted.flatten(0, 1) != 0, after


def test_a_row_may_keep_nothing_or_everything():
    weight, hessian = problem(rows=3, columns=8)
    kept = torch.zeros(3, 8, dtype=torch.bool)
    kept[1] = True
    fitted = one_round(weight, hessian, kept)
    assert int((fitted != 0).sum()) == 8 and int((fitted[0, 1] != 0).sum()) < 8


def test_a_round_with_everything_on_offer_is_obs(monkeypatch):
    monkeypatch.setattr(surplus, "LEAST_EXCHANGE", 100)
    weight, hessian = problem(rows=4, columns=16, observations=40)
    kept = random_support(weight, 20)
    expected = obs(weight, hessian, 1 - 20 / 64, 1)
    torch.testing.assert_close(one_round(weight, hessian, kept), expected)


def test_one_order_of_removal_serves_every_number_that_stays(monkeypatch):
    weight, hessian = problem(groups=2, rows=4, columns=16, observations=40)
    layer = Layer.of(weight, hessian, 1)
    units = torch.arange(16).expand(8, 16).flip(1)
    counts = torch.tensor([16, 3, 12, 0, 9, 16, 7, 1])
    together = thin(layer, units, counts, [40, 21, 6])
    for stay, mask in zip([40, 21, 6], together, strict=True):
        assert int(mask.sum()) == stay
        assert torch.equal(mask, thin(layer, units, counts, [stay])[0])
    monkeypatch.setattr(surplus, "WORK_BYTES", 1)  # a row at a time, none wider than its own support
    for row, count in enumerate(counts.tolist()):
        assert int(thin(layer, units, counts, [6])[0][row].sum()) <= count


@pytest.mark.parametrize("sparsity", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_rows_of_very_different_scale(sparsity, spread):
    """Some rows need several times as many weights as others; inputs are rectified, as those of real layers are."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(600, 128, generator=generator) * torch.linspace(3, 0.1, 128)
    x = (x @ torch.randn(128, 128, generator=generator)).relu()
    hessian = damp((2 / 600 * x.T @ x)[None], 0.01)[0]
    weight = torch.randn(1, 24, 128, generator=generator)
    weight *= (spread * torch.randn(1, 24, 1, generator=generator)).exp()
    mine, exact = (relative_error(weight, pruner(weight, hessian, sparsity, 1), hessian) for pruner in (forward, obs))
    assert mine < 1.005 * exact
