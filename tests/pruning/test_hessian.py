"""The statistics against their definition: the second derivative of a layer's reconstruction error."""

import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian as autograd_hessian

from spade_cli.errors import SpadeError
from spade_cli.pruning.hessian import collect
from spade_cli.pruning.solvers.damped_hessian import damp, relative_error


class Network(nn.Module):
    """A convolution, a grouped one that is called twice, a head, and a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(4, 5)
        self.unused = nn.Linear(4, 5)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = self.first(x).relu_()
        x = self.grouped(self.grouped(x).relu())
        return self.head(self.dropout(x.mean((2, 3))))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network().train()


NAMES = ["first", "grouped", "head", "unused"]


def statistics(network, x, batch=3, **settings):
    return collect(network, x.split(batch), NAMES, samples=len(x), **settings)


def test_hessian_is_the_second_derivative(network):
    x = torch.randn(7, 3, 6, 6)
    found = statistics(network, x, rows_per_column=None)
    inputs = nn.functional.unfold(x, 3, padding=1).transpose(1, 2).reshape(-1, 27)  # (n, c)
    row = network.first.weight[0].detach().flatten()

    def error(w):
        return ((inputs @ w - inputs @ row) ** 2).mean()

    torch.testing.assert_close(
        found.hessians["first"][0], autograd_hessian(error, torch.zeros(27)), rtol=1e-4, atol=1e-5
    )
    assert found.observations["first"] == 7 * 36


def test_grouped_layer_called_twice_has_a_hessian_per_group_over_both_calls(network):
    x = torch.randn(4, 3, 6, 6)
    found = statistics(network, x, rows_per_column=None)
    network.eval()
    once = network.first(x).relu()
    unfolded = [
        nn.functional.unfold(y[:, 2:], 3, padding=1) for y in (once, network.grouped(once).relu())
    ]  # group 1: channels 2, 3
    inputs = torch.cat([u.transpose(1, 2).reshape(-1, 18) for u in unfolded]).detach()
    assert found.hessians["grouped"].shape == (2, 18, 18)
    torch.testing.assert_close(found.hessians["grouped"][1], 2 / len(inputs) * inputs.T @ inputs)


def test_result_does_not_depend_on_the_batches(network):
    x = torch.randn(8, 3, 6, 6)
    one, many = (statistics(network, x, batch=b, rows_per_column=None) for b in (8, 3))
    for name in ("first", "grouped", "head"):
        torch.testing.assert_close(one.hessians[name], many.hessians[name])
    torch.testing.assert_close(one.logits, many.logits)


def test_sampling_takes_the_rows_asked_for_and_is_seeded(network):
    x = torch.randn(9, 3, 20, 20)
    found = statistics(network, x, rows_per_column=2)
    assert found.observations["first"] == 9 * 6  # 54 wanted: 6 positions of each of 9 images
    assert found.observations["head"] == 9  # each image has only one to give
    again = statistics(network, x, rows_per_column=2)
    other = statistics(network, x, rows_per_column=2, seed=1)
    assert torch.equal(found.hessians["first"], again.hessians["first"])
    assert not torch.equal(found.hessians["first"], other.hessians["first"])


def test_sampled_hessian_estimates_the_full_one(network):
    x = torch.randn(64, 3, 20, 20)
    full = statistics(network, x, batch=16, rows_per_column=None).hessians["first"]
    some = statistics(network, x, batch=16, rows_per_column=128).hessians["first"]
    assert (some - full).norm() / full.norm() < 0.1


def test_dense_network_is_given_back_as_it_was(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.dropout.eval()
    statistics(network, torch.randn(4, 3, 6, 6))
    assert network.training and network.first.training and not network.dropout.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_and_mode_come_back_after_a_failure(network):
    with pytest.raises(RuntimeError):
        statistics(network, torch.randn(4, 5, 6, 6))
    assert network.training and not any(module._forward_hooks for module in network.modules())


def test_layer_that_never_ran_has_no_hessian(network):
    assert "unused" not in statistics(network, torch.randn(4, 3, 6, 6)).hessians


def test_damping_is_relative_to_the_mean_diagonal():
    diagonal = torch.diag(torch.tensor([1.0, 3.0]))[None]
    damped, used = damp(diagonal, 0.5)
    torch.testing.assert_close(damped[0], torch.diag(torch.tensor([2.0, 4.0])))
    assert used == 0.5


def test_damping_escalates_tenfold_until_the_factorisation_succeeds():
    indefinite = torch.tensor([[[1.0, 1.05], [1.05, 1.0]]])  # eigenvalues -0.05 and 2.05
    damped, used = damp(indefinite, 0.01)
    assert used == pytest.approx(0.1)
    torch.testing.assert_close(damped[0].diagonal(), torch.tensor([1.1, 1.1]))
    singular = torch.ones(1, 3, 3)
    assert damp(singular, 0.0)[1] > 0


def test_damping_of_nan_is_refused():
    with pytest.raises(SpadeError, match="NaN"):
        damp(torch.full((1, 2, 2), torch.nan), 0.01)


def test_relative_error_is_that_of_the_outputs():
    x, w, v = torch.randn(40, 6), torch.randn(1, 3, 6), torch.randn(1, 3, 6)
    hessian = (2 / 40 * x.T @ x)[None]
    expected = ((x @ v[0].T - x @ w[0].T) ** 2).sum() / ((x @ w[0].T) ** 2).sum()
    assert relative_error(w, v, hessian) == pytest.approx(float(expected), rel=1e-4)
    assert relative_error(w, w, hessian) == 0 and relative_error(w, v, torch.zeros(1, 6, 6)) == 0


def test_each_group_is_damped_on_its_own_scale():
    groups = torch.stack([torch.eye(3) * 1000, torch.eye(3) * 1e-3, torch.zeros(3, 3)])
    damped, _ = damp(groups, 0.01)
    torch.testing.assert_close(damped[0].diagonal(), torch.full((3,), 1010.0))
    torch.testing.assert_close(damped[1].diagonal(), torch.full((3,), 1.01e-3))
    assert (damped[2].diagonal() > 1).all(), "a dead group takes the mean of all"


def test_damping_beyond_the_limit_is_tried_as_asked():
    assert damp(torch.eye(2)[None], 1e5)[1] == 1e5


def test_what_is_drawn_for_a_layer_does_not_depend_on_the_others(network):
    x = torch.randn(9, 3, 20, 20)
    together = statistics(network, x, rows_per_column=2).hessians["grouped"]
    alone = collect(network, x.split(3), ["grouped"], samples=9, rows_per_column=2).hessians["grouped"]
    assert torch.equal(together, alone)


def test_large_maps_are_gathered_in_parts(network, monkeypatch):
    x = torch.randn(8, 3, 6, 6)
    whole = statistics(network, x, batch=8, rows_per_column=None)
    monkeypatch.setattr("spade_cli.pruning.hessian.GATHER_BYTES", 2 * 9 * 3 * 36 * 4)  # two images at a time
    parts = statistics(network, x, batch=8, rows_per_column=None)
    torch.testing.assert_close(whole.hessians["first"], parts.hessians["first"])
    assert whole.observations == parts.observations
