"""The baselines against what their names say."""

import torch
from test_obs import problem

from spade_cli.pruning.solvers.weight_scores import magnitude, random, wanda


def test_magnitude_keeps_the_largest():
    weight, hessian = problem(groups=2, rows=4, columns=10)
    found = magnitude(weight, hessian, 0.7, 1)
    kept = found != 0
    assert weight.abs()[kept].min() > weight.abs()[~kept].max() and torch.equal(found[kept], weight[kept])


def test_wanda_compares_weight_times_input_norm_within_each_row():
    weight, hessian = problem(groups=2, rows=4, columns=10)
    norm = hessian.diagonal(dim1=1, dim2=2).sqrt()
    found = wanda(weight, hessian, 0.7, 1)
    for g in range(2):
        for r in range(4):
            expected = sorted(range(10), key=lambda j: float(weight[g, r, j].abs() * norm[g, j]))[7:]
            assert found[g, r].nonzero().flatten().tolist() == sorted(expected)
    uneven = wanda(weight, hessian, 0.75, 1)  # 60 of 80: seven or eight of each row
    assert set((uneven == 0).sum(2).flatten().tolist()) == {7, 8}


def test_random_follows_its_seed_and_nothing_else():
    weight, hessian = problem(rows=8, columns=30)
    found = random(weight, hessian, 0.5, 1)
    assert torch.equal(found, random(weight * 1.0, hessian * 3, 0.5, 9))
    assert not torch.equal(found, random(weight, hessian, 0.5, 1, seed=1))
