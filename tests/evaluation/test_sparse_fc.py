"""Sparse FC: only the last layer changes, it solves what it says it solves, and it says where it does not fit."""

import numpy as np
import pytest
import torch
from torch import nn

from spade_cli.errors import SpadeError, UserError
from spade_cli.evaluation import sparse_fc as module
from spade_cli.evaluation.sparse_fc import PENALTIES, check_last_layer, sparse_fc
from spade_cli.models import wrap


class Pooled(nn.Module):
    """The mean of each of eight maps, and a linear layer; classes 3 of 4 are ever answered."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.stem(x).relu().mean((2, 3)))


def classifier():
    torch.manual_seed(2)
    network = Pooled()
    nn.init.normal_(network.head.weight, std=5.0)
    with torch.no_grad():  # three of the four answers are about as frequent
        features = network.stem(torch.cat(batches())).relu().mean((2, 3))
        network.head.bias.copy_(-network.head.weight @ features.mean(0))
    network.head.bias.data[3] = -1000.0
    return wrap(network, size=16)


def batches(count=10):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(20, 3, 16, 16, generator=generator) + torch.randn(20, 3, 1, 1, generator=generator)
        for _ in range(count)
    ]


def test_only_the_last_layer_changes_and_it_still_answers_alike():
    dense = classifier()
    network = sparse_fc(dense, batches(), seed=0)
    new, old = network.state_dict(), dense.model.state_dict()
    assert [name for name in new if not new[name].equal(old[name])] == ["head.weight", "head.bias"]
    weights = network.head.weight
    assert 0 < (weights == 0).sum() < weights.numel()
    with torch.no_grad():
        x = torch.cat(batches())
        answers = dense.model(x).argmax(1)
        assert (network(x).argmax(1) == answers).float().mean() > 0.85
        assert network(x).argmax(1).max() < 3  # a class that was never seen is never answered
    fits: list[None] = []
    again = sparse_fc(dense, batches(), seed=0, on_fit=lambda: fits.append(None))
    assert len(fits) == len(PENALTIES)
    assert again.head.weight.equal(weights)


def test_the_fit_minimises_the_elastic_net(monkeypatch):
    """The same problem by proximal gradient steps, from its definition."""
    monkeypatch.setattr(module, "ITERATIONS", 20_000)
    monkeypatch.setattr(module, "PENALTIES", (0.02,))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 5))
    answers = (features @ rng.normal(size=(5, 3))).argmax(1)
    ((classes, weight, _),) = module._fit_path(features, answers, 0, lambda: None)
    w, b = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    x, y = torch.from_numpy(features), torch.from_numpy(answers)
    penalty, ratio, step = 0.02, module.L1_RATIO, 0.2
    for _ in range(5000):
        error = (x @ w.T + b).softmax(1) - nn.functional.one_hot(y, 3)
        w = w - step * (error.T @ x / 120 + penalty * (1 - ratio) * w)
        w = w.sign() * (w.abs() - step * penalty * ratio).clamp(min=0)
        b = b - step * error.mean(0)
    assert classes.tolist() == [0, 1, 2]
    assert np.abs(weight - w.numpy()).max() < 0.02 and ((weight == 0) == (w.numpy() == 0)).all()


def test_features_are_standardised_and_put_back():
    dense = classifier()
    features, answers = module._collect_features(dense.model, "head", batches())
    weight, bias = module._fit_layer(features, answers, 4, 0, lambda: None)
    scaled = features * 100 + 7
    shift = module._fit_layer(scaled, answers, 4, 0, lambda: None)
    first, second = features @ weight.T + bias, scaled @ shift[0].T + shift[1]
    assert np.abs((first - second)[:, :3]).max() < 1e-2


def test_two_classes_have_two_rows():
    dense = classifier()
    dense.model.head.bias.data[2] = -1000.0
    network = sparse_fc(dense, batches(), seed=0)
    with torch.no_grad():
        x = torch.cat(batches())
        assert (network(x).argmax(1) == dense.model(x).argmax(1)).float().mean() > 0.85


def test_networks_without_a_last_linear_layer_are_refused():
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match="take sparse_fc out"):
        check_last_layer(wrap(flat, size=16))
    doubled = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Softplus())
    with pytest.raises(UserError, match="take sparse_fc out"):
        check_last_layer(wrap(doubled, size=16))
    assert check_last_layer(classifier()) == "head"


def test_one_answer_is_nothing_to_fit():
    dense = classifier()
    dense.model.head.bias.data[0] = 1000.0
    with pytest.raises(SpadeError, match="one answer to all"):
        sparse_fc(dense, batches(1), seed=0)
