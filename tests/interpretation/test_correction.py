"""The dense network's part in the visualization of a trace, restated slowly, and where it has none."""

import pytest
import torch
from map_networks import SwitchedOff
from zoo import small_convolutional

from spade_cli.interpretation import Channel, Dense, accentuate, is_blank, visualize, visualize_with_lucent
from spade_cli.interpretation.visualization.visualizer import observe_slopes
from spade_cli.networks.scores import Output

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CONTRAST = Channel(None, 2, ((-1.0, 0),))


def dense_and_trace():
    dense, trace = small_convolutional(), small_convolutional()
    trace[0].weight.data = trace[0].weight.data.flip(0)
    return dense, trace


def ask(targets, dense, trace, corrected, **settings):
    shown = torch.rand(2 * len(targets), 3, 32, 32, generator=torch.Generator().manual_seed(3)).requires_grad_()
    with observe_slopes([trace], targets, MEAN, STD, views=2, dense=dense, **settings) as find_slopes:
        responses, slopes = find_slopes(shown, corrected)
    return shown, responses, slopes


@pytest.mark.parametrize("output", [Output.SOFTMAX, Output.SIGMOID])
@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_the_dense_networks_slopes_are_added_as_far_as_it_does_not_see_the_class(output, weight):
    dense, trace = dense_and_trace()
    targets = [Channel(None, 1), CONTRAST, Channel("3", 2)]
    shown, responses, slopes = ask(targets, Dense(dense, output), trace, True, dense_weight=weight)
    _, plain_responses, plain = ask(targets, None, trace, True)
    assert torch.equal(responses, plain_responses)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    for n, target in enumerate(targets):
        own = slice(2 * n, 2 * n + 2)
        if target.layer is not None:
            assert torch.equal(slopes[own], plain[own])
            continue
        x = shown[own].detach().requires_grad_()
        logits = dense((x - mean) / std)
        if target is CONTRAST:
            score = logits[:, 2] - logits[:, 0]
            seen = torch.sigmoid(score).mean()
        else:
            score = logits[:, 1]
            seen = (logits.softmax(1) if output is Output.SOFTMAX else logits.sigmoid())[:, 1].mean()
        (ways,) = torch.autograd.grad(score.sum(), [x])
        factor = weight * (1 - seen.item()) * plain[own].square().sum().sqrt() / ways.square().sum().sqrt()
        assert 0.01 < seen < 0.99
        assert torch.allclose(slopes[own], plain[own] + factor * ways, rtol=1e-4, atol=1e-9)


def test_a_network_that_sees_the_class_has_no_say():
    dense, trace = dense_and_trace()
    dense[-1].bias.data[1] += 1000.0
    _, _, slopes = ask([Channel(None, 1)], Dense(dense), trace, True)
    assert torch.equal(slopes, ask([Channel(None, 1)], None, trace, True)[2])


def test_the_first_half_of_the_steps_is_the_traces_alone():
    dense, trace = dense_and_trace()
    target = [Channel(None, 1)]
    _, _, slopes = ask(target, Dense(dense), trace, False)
    assert torch.equal(slopes, ask(target, None, trace, False)[2])
    seen, step = [], [1]
    dense.register_forward_hook(lambda *_: seen.append(step[0]))

    def count(done, _):
        step[0] = done + 1

    for steps, corrected in ((6, [4, 5, 6]), (5, [3, 4, 5])):
        seen.clear()
        step[0] = 1
        visualize([trace], target, size=32, mean=MEAN, std=STD, steps=steps, dense=Dense(dense), on_step=count)
        assert seen == corrected


@pytest.mark.parametrize("draw", [visualize, visualize_with_lucent, accentuate])
def test_every_visualization_is_corrected(draw):
    dense, trace = dense_and_trace()
    settings = {"size": 32, "mean": MEAN, "std": STD, "steps": 4}
    if draw is accentuate:
        settings["image"] = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    target = [Channel(None, 1)]
    alone = draw([trace], target, **settings)
    assert torch.equal(draw([trace], target, **settings, dense=Dense(dense), dense_weight=0), alone)
    found = draw([trace], target, **settings, dense=Dense(dense))
    assert not torch.allclose(found, alone, atol=1e-3)
    assert torch.equal(found, draw([trace], target, **settings, dense=Dense(dense), dense_weight=1.0))
    inner = [Channel("3", 2)]
    assert torch.equal(draw([trace], inner, **settings, dense=Dense(dense)), draw([trace], inner, **settings))


def test_an_objective_of_the_users_own_is_climbed_alone():
    dense, trace = dense_and_trace()
    settings = {"size": 32, "mean": MEAN, "std": STD, "steps": 4, "objective": total}
    target = [Channel(None, 1)]
    assert torch.equal(
        visualize([trace], target, **settings, dense=Dense(dense)), visualize([trace], target, **settings)
    )


def total(values, channel):
    return values[0, channel].sum()


class Head(SwitchedOff):
    """One class for each channel: the mean of it."""

    def forward(self, x):
        return self.relu(self.conv(x)).flatten(2).mean(2)


def test_the_dense_network_does_not_answer_for_a_class_that_is_dead_on_the_trace():
    dense, trace = Head().eval(), Head().eval()
    dense.conv.bias.data.fill_(1.0)
    settings = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "steps": 20}
    dead = [Channel(None, SwitchedOff.DEAD)]
    assert not is_blank(visualize([dense], dead, **settings)[0])
    assert is_blank(visualize([trace], dead, **settings, dense=Dense(dense))[0])
