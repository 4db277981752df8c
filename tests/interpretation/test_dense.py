"""Pictures from the cache are those that would be made, to the last bit, and only those."""

from functools import partial

import pytest
import torch
from torch import nn
from zoo import small_convolutional

from spade_cli.cache import Cache
from spade_cli.errors import SpadeError
from spade_cli.interpretation import Channel, visualize, visualize_dense, visualize_with_lucent

SETTINGS = {"size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3), "seed": 1}
TARGETS = [Channel(None, 1), Channel("3", 2)]
DRAW = partial(visualize, steps=3)


def draw(cache, network, function=DRAW, targets=TARGETS, **changes):
    return visualize_dense(cache, function, [network], targets, name="small", **{**SETTINGS, **changes})


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3)).eval()


def test_from_the_cache_and_without_it_are_the_same_bits(tmp_path):
    network, cache = small_convolutional(), Cache(tmp_path)
    plain = visualize([network], TARGETS, **SETTINGS, steps=3)
    without, first, second = (draw(one, network) for one in (None, cache, cache))
    assert (without.cached, first.cached, second.cached) == (False, False, True)
    for made in (without, first, second):
        assert made.values.dtype == torch.float32 and torch.equal(made.values, plain)
    second.values.zero_()  # which is the caller's own
    assert torch.equal(draw(cache, network).values, plain)


def test_the_random_numbers_and_the_network_are_left_alike(tmp_path):
    network, cache, states = small_convolutional().train(), Cache(tmp_path), []
    for where in (None, cache, cache):
        torch.manual_seed(5)
        draw(where, network)
        states.append(torch.rand(3))
        assert network.training and not any(module._forward_hooks for module in network.modules())
    assert torch.equal(states[0], states[1]) and torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    "changes",
    [
        *(dict(seed=2), dict(size=40), dict(mean=(0.4, 0.5, 0.5)), dict(std=(0.2, 0.2, 0.3))),
        *(dict(function=partial(visualize, steps=4)), dict(function=partial(visualize, steps=3, learning_rate=0.04))),
        *(dict(function=partial(visualize, steps=3, crops=2)), dict(function=partial(visualize_with_lucent, steps=3))),
        *(dict(targets=TARGETS[:1]), dict(targets=TARGETS[::-1]), dict(targets=[TARGETS[0], Channel("3", 1)])),
    ],
    ids=lambda changes: str(next(iter(changes))),
)
def test_other_settings_are_another_entry(changes, tmp_path):
    network, cache = small_convolutional(), Cache(tmp_path)
    draw(cache, network)
    other = draw(cache, network, **changes)
    assert not other.cached and torch.equal(other.values, draw(None, network, **changes).values)
    assert draw(cache, network).cached and draw(cache, network, **changes).cached and len(cache.entries()) == 2


@pytest.mark.parametrize("name", ["0.weight", "1.running_mean"])
def test_another_weight_or_buffer_is_another_entry(name, tmp_path, monkeypatch):
    """Also where the answer to noise does not tell, as for a change that rounds away."""
    monkeypatch.setattr("spade_cli.interpretation.visualization.dense._answer_noise", lambda *_: [])
    network, cache, targets = normed(), Cache(tmp_path), [Channel(None, 1)]
    draw(cache, network, targets=targets)
    with torch.no_grad():
        network.state_dict()[name].view(-1)[0] += 1e-6
    assert not draw(cache, network, targets=targets).cached


def test_another_forward_is_another_entry(tmp_path):
    """What a user edits in the network's file between two runs changes neither its modules nor its weights."""

    class Own(nn.Module):
        scale = 1.0

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.layer(x * self.scale)

    network, cache, targets = Own(), Cache(tmp_path), [Channel(None, 1)]
    draw(cache, network, targets=targets)
    Own.scale = 1.5
    assert not draw(cache, network, targets=targets).cached


def test_another_number_of_threads_or_processor_is_another_entry(tmp_path, monkeypatch):
    network, cache = small_convolutional(), Cache(tmp_path)
    draw(cache, network)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert not draw(cache, network).cached
    monkeypatch.setattr("spade_cli.interpretation.visualization.dense.name_processor", lambda device: "another")
    assert not draw(cache, network).cached


def test_an_objective_or_a_visualizer_of_the_users_is_never_kept(tmp_path):
    network, cache = small_convolutional(), Cache(tmp_path)

    def climb(activations, channel):
        return activations[:, channel].max()

    def own(model, targets, *, size, on_step=None, **settings):
        return torch.rand(len(targets), 3, size, size)

    for function in (partial(visualize, steps=2, objective=climb), own, partial(own)):
        assert not any(draw(cache, network, function=function).cached for _ in range(2))
    assert cache.entries() == []


def test_a_damaged_entry_is_made_again(tmp_path):
    network, cache = small_convolutional(), Cache(tmp_path)
    made = draw(cache, network).values
    (entry,) = cache.entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-1])
    again = draw(cache, network)
    assert not again.cached and torch.equal(again.values, made) and draw(cache, network).cached


def test_progress_is_told_from_the_cache_as_well(tmp_path):
    network, cache = small_convolutional(), Cache(tmp_path)
    for expected in ([(1, 3), (2, 3), (3, 3)], [(1, 1)]):
        told = []
        draw(cache, network, on_step=lambda *step, told=told: told.append(step))
        assert told == expected


def test_a_network_that_fails_says_so_as_without_the_cache(tmp_path):
    network = small_convolutional()
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    errors = []
    for cache in (None, Cache(tmp_path)):
        with pytest.raises(SpadeError) as error:
            draw(cache, network)
        errors.append(str(error.value))
    assert errors[0] == errors[1] and Cache(tmp_path).entries() == []


def test_a_network_without_a_name_is_visualized_and_not_kept(tmp_path, monkeypatch):
    network, cache = small_convolutional(), Cache(tmp_path)
    monkeypatch.setattr("spade_cli.interpretation.visualization.dense.fingerprint", lambda *_: 1 / 0)
    assert torch.equal(draw(cache, network).values, draw(None, network).values) and cache.entries() == []
