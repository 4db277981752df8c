"""Layers too wide for a Hessian: the same mathematics in the space of the observations."""

import pytest
import torch
from test_obs import best_on_support
from torch import nn

from spade_cli.errors import UserError
from spade_cli.pruning import collect, find_layers, hessian, prune
from spade_cli.pruning.solvers import wide_layers
from spade_cli.pruning.solvers.damped_hessian import LowRank, damp, multiply, relative_error
from spade_cli.pruning.solvers.forward import forward
from spade_cli.pruning.solvers.sparsegpt import sparsegpt


def problem(rows=3, columns=40, observations=6, groups=1):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(groups, observations, columns, generator=generator, dtype=torch.double)
    weight = torch.randn(groups, rows, columns, generator=generator, dtype=torch.double)
    low, _ = damp(LowRank(inputs, torch.zeros(groups, dtype=torch.double)), 0.1)
    return weight, low


def definition(w, matrix, sizes):
    """One row: pick those of largest q^2 / H_jj, q the correlation with what is unexplained, refit, repeat."""
    kept = []
    for size in sizes:
        rest = w - best_on_support(w, matrix, sorted(kept))
        score = (matrix @ rest) ** 2 / matrix.diagonal()
        score[kept] = -1
        kept += score.argsort(descending=True)[:size].tolist()
    return best_on_support(w, matrix, sorted(kept))


def test_same_as_the_definition_on_the_whole_hessian(monkeypatch):
    monkeypatch.setattr(wide_layers, "LEAST", 8)
    monkeypatch.setattr(wide_layers, "GROWTH", 0.25)
    weight, low = problem(groups=2)
    found = forward(weight, low, 1 - 75 / 240, 1)  # 75 of 240 stay: 12 in three rows, 13 in the first three
    assert int((found != 0).sum()) == 75
    for g in range(2):
        for r in range(3):
            matrix = low.dense()[g]
            # eight, as many as are left, and one more where there is one
            expected = definition(weight[g, r], matrix, [8, 4] + [1] * (3 * g + r < 3))
            torch.testing.assert_close(found[g, r], expected)


def test_batches_of_rows_change_nothing(monkeypatch):
    weight, low = problem(rows=5)
    together = forward(weight, low, 0.63, 1)
    monkeypatch.setattr(wide_layers, "WORK_BYTES", 1)
    torch.testing.assert_close(forward(weight, low, 0.63, 1), together)


@pytest.mark.parametrize("sparsity", [0.0, 0.001, 0.5, 0.97, 1.0])
def test_counts_are_exact(sparsity):
    weight, low = problem()
    assert int((forward(weight, low, sparsity, 1) == 0).sum()) == round(120 * sparsity)


def test_low_rank_is_the_hessian_it_stands_for():
    weight, low = problem(groups=2)
    matrix = low.inputs.mT @ low.inputs + 0.1 * low.inputs.square().sum(1).mean(1)[:, None, None] * torch.eye(40)
    torch.testing.assert_close(low.dense(), matrix)
    torch.testing.assert_close(low.diagonal(), matrix.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(multiply(weight, low), weight @ matrix)
    assert relative_error(weight, weight * 0.5, low) == pytest.approx(0.25)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 5)

    def forward(self, x):
        return self.head(x)


def test_few_observations_are_kept_and_many_are_summed(monkeypatch):
    torch.manual_seed(0)
    model, x = Network(), torch.randn(40, 64)
    whole = collect(model, [x], ["head"], samples=40).hessians["head"]
    monkeypatch.setattr(hessian, "WIDE", 64)
    summed = collect(model, x.split(8), ["head"], samples=40).hessians["head"]
    assert isinstance(summed, torch.Tensor)
    torch.testing.assert_close(summed, whole)
    few = collect(model, x[:12].split(5), ["head"], samples=12)
    assert isinstance(few.hessians["head"], LowRank) and few.observations["head"] == 12
    torch.testing.assert_close(few.hessians["head"].dense()[0], 2 / 12 * x[:12].T @ x[:12])


def test_trace_of_a_wide_layer(monkeypatch):
    torch.manual_seed(0)
    model, x = Network(), torch.randn(12, 64)
    monkeypatch.setattr(hessian, "WIDE", 64)
    statistics = collect(model, [x], ["head"], samples=12)
    layers = find_layers(model)
    errors = {}
    for pruner in (forward, sparsegpt):
        record = prune(model, layers, {"head": 0.9}, statistics, pruner).layers[0]
        assert record.achieved == pytest.approx(0.9) and record.observations == 12
        errors[pruner] = record.error
    assert errors[forward] < errors[sparsegpt]
    monkeypatch.setattr("spade_cli.pruning.solvers.damped_hessian.MOST_DENSE", 63)
    with pytest.raises(UserError, match="layer head: this pruner needs the whole Hessian of its 64 columns"):
        prune(model, layers, {"head": 0.9}, statistics, sparsegpt)


def test_strips_change_nothing(monkeypatch):
    torch.manual_seed(0)
    model, x = Network(), torch.randn(80, 64)
    whole = collect(model, [x], ["head"], samples=80).hessians["head"]
    monkeypatch.setattr(hessian, "STRIP", 10)
    torch.testing.assert_close(collect(model, [x], ["head"], samples=80).hessians["head"], whole)
