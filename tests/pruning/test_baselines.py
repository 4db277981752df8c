"""The baselines against what their names say."""

import torch
from networks import small
from test_obs import problem
from torch import nn

import spade_cli
from spade_cli.networks.question import Question
from spade_cli.pruning.gradients import measure_gradients
from spade_cli.pruning.solvers.weight_scores import gradient, magnitude, random, wanda


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


def test_gradient_removes_the_weights_of_least_product_of_weight_and_gradient():
    """Each weight nudged by itself, on each sample: the slow way to the gradients."""
    model = nn.Sequential(nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)).double()
    samples, question = torch.randn(4, 3, 3, 3, dtype=torch.double), Question(2, ((-1.0, 0),))
    found = measure_gradients(model, samples.split(3), ["0", "3"], question)
    for name, shape in (("0", (1, 2, 12)), ("3", (1, 3, 8))):
        weight = model.get_submodule(name).weight
        slow = torch.zeros_like(weight)
        with torch.no_grad():
            for place in range(weight.numel()):
                scores = []
                for step in (1e-5, -2e-5, 1e-5):
                    weight.view(-1)[place] += step
                    scores.append(question.score(model(samples)))
                slow.view(-1)[place] = ((scores[0] - scores[1]) / 2e-5).abs().mean()
        assert torch.allclose(found[name].double(), slow.reshape(shape), atol=1e-4)
        matrix = weight.detach().float().reshape(shape)
        pruned = gradient(matrix, torch.eye(shape[2])[None], 0.5, 1, found[name])
        price = (weight.detach() * slow).abs().flatten().float()
        kept = price.argsort()[price.numel() // 2 :].sort().values
        assert pruned.flatten().nonzero().flatten().tolist() == kept.tolist()
    assert torch.equal(gradient(matrix, torch.eye(8)[None], 0.0, 1, found["3"]), matrix)


def test_a_trace_by_gradients_keeps_what_is_asked():
    classifier = spade_cli.wrap(small(), size=32)
    picture = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    settings = {"pruner": "gradient", "samples": 4, "schedule": "uniform", "sparsity": 0.5}
    one, other = (spade_cli.trace(classifier, picture, target=target, **settings) for target in (0, "0:1"))
    assert 0.4 < one.sparsity < 0.6
    differ = [not torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)]
    assert any(differ)  # another question prunes other weights
    auto = spade_cli.trace(classifier, picture, pruner="gradient", samples=4, visualization_traces=1)
    assert auto.trials
