"""Layers that make solvers stumble: twins, dead rows and columns, next to no damping, weights of any size."""

import pytest
import torch
from torch import nn

from spade_cli.errors import SpadeError
from spade_cli.pruning import collect, find_layers, prune
from spade_cli.pruning.solvers.damped_hessian import LowRank, damp, relative_error
from spade_cli.pruning.solvers.elimination import invert
from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.selection import select
from spade_cli.pruning.solvers.sparsegpt import sparsegpt
from spade_cli.pruning.solvers.weight_scores import magnitude, random, wanda

PRUNERS = [forward, magnitude, obs, random, sparsegpt, wanda]


def twins(columns=32, observations=50, damping=0.0):
    """Every column twice."""
    torch.manual_seed(0)
    x = torch.randn(observations, columns).relu().repeat(1, 2)
    return damp((2 / observations * x.T @ x)[None], damping)[0]


def zero_row(weight):
    weight[0, 1] = 0


def zero_kernels(weight):
    weight[0, :, : weight.shape[2] // 2] = 0


def one_huge(weight):
    weight[0, 0, 0] = 1e15


def all_equal(weight):
    weight[:] = 0.5


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("spoil", [zero_row, zero_kernels, one_huge, all_equal])
@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("sparsity", [0.3, 0.6, 0.9])
def test_weights_of_every_kind_are_pruned_to_at_least_the_count(pruner, spoil, damping, sparsity):
    weight = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(1))
    spoil(weight)
    found = pruner(weight, twins(damping=damping), sparsity, 4)
    assert torch.isfinite(found).all()
    unit = 4 if pruner is obs else 1
    assert int((found == 0).sum()) >= round(256 // unit * sparsity) * unit  # zeros may have been there


@pytest.mark.parametrize("settings", [dict(granularity="kernel"), dict(budget="row"), dict()])
def test_forward_takes_twins_with_next_to_no_damping(settings):
    weight = torch.randn(1, 4, 64, generator=torch.Generator().manual_seed(1))
    for damping in (0.0, 1e-7, 1e-6):
        hessian = twins(damping=damping)
        found = forward(weight, hessian, 0.5, 2, **settings)
        assert torch.isfinite(found).all() and int((found == 0).sum()) == 128


def test_of_twins_one_stays():
    """Removing several at a time must not take the second twin for free once the first is gone."""
    torch.manual_seed(0)
    weight = torch.randn(1, 4, 700)
    hessian = twins(350, 900, 1e-7)
    exact, several = (relative_error(weight, one(weight, hessian, 0.3, 1), hessian) for one in (obs, forward))
    assert several < exact + 1e-4


@pytest.mark.parametrize("damping", [0.0, 1e-7, 1e-5])
def test_observations_with_next_to_no_damping(damping):
    torch.manual_seed(0)
    low, _ = damp(LowRank(torch.randn(1, 50, 3000).relu() / 5, torch.zeros(1)), damping)
    weight = torch.randn(1, 4, 3000)
    for sparsity in (0.9, 0.99):
        found = forward(weight, low, sparsity, 1)
        assert torch.isfinite(found).all() and int((found == 0).sum()) == round(12000 * sparsity)


def test_kernels_are_kept_whole_where_only_the_observations_are():
    torch.manual_seed(0)
    low, _ = damp(LowRank(torch.randn(1, 20, 90), torch.zeros(1)), 0.01)
    kept = forward(torch.randn(1, 4, 90), low, 0.8, 9, granularity="kernel").unflatten(2, (10, 9)) != 0
    assert torch.equal(kept.any(3), kept.all(3)) and int(kept.any(3).sum()) == 8


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(x)


def test_weights_that_are_not_finite_are_named():
    model = Network()
    statistics = collect(model, [torch.randn(20, 8)], ["head"], samples=20)
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(SpadeError, match="layer head: its weights hold infinite or NaN values"):
        prune(model, find_layers(model), {"head": 0.5}, statistics, obs)


def test_a_solver_that_gives_up_is_named_with_its_layer():
    def gives_up(weight, hessian, sparsity, block):
        return torch.linalg.cholesky(-hessian)

    model = Network()
    statistics = collect(model, [torch.randn(20, 8)], ["head"], samples=20)
    with pytest.raises(SpadeError, match=r"layer head: its Hessian is too close to singular .* raise pruner.damping"):
        prune(model, find_layers(model), {"head": 0.5}, statistics, gives_up)


def test_too_wide_for_any_hessian_keeps_few_observations(monkeypatch):
    for name, value in {"WIDE": 8, "MOST_DENSE": 7, "MOST_OBSERVATIONS": 10}.items():
        monkeypatch.setattr(f"spade_cli.pruning.hessian.{name}", value)
    model = Network()
    for rows_per_column in (32, None):
        statistics = collect(
            model, torch.randn(4, 5, 6, 8).split(2), ["head"], samples=4, rows_per_column=rows_per_column
        )
        assert isinstance(statistics.hessians["head"], LowRank) and statistics.observations["head"] == 10


@pytest.mark.parametrize(("alike", "dtype"), [(0.9, torch.float32), (0.9999, torch.float64)])
def test_an_inverse_is_float64_where_float32_would_lose_its_digits(alike, dtype):
    hessian = torch.tensor([[[1, alike], [alike, 1]]], dtype=torch.float64)  # variance inflation 1 / (1 - alike^2)
    found = invert(hessian)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), torch.linalg.inv(hessian), rtol=1e-5, atol=0)


def test_a_unit_that_picked_ones_make_up_is_worth_nothing():
    matrix = torch.tensor([[[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]])  # the first two columns are the same
    values = torch.tensor([[1.0, 1.001, 0.1]])
    order, worth = select(values, torch.zeros(1, dtype=torch.long), matrix, 1, 3)
    assert order.tolist() == [[1, 2, 0]] and worth[0, 2] == 0
