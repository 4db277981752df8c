"""Passes that start at the first changed weight answer as whole passes do, whatever the network is made of."""

import pytest
import torch
from networks import attentive, small
from torch import nn
from torch.nn import functional as F
from torchvision import models

from spade_cli.networks.calls import watch_calls
from spade_cli.networks.modes_and_seeds import ask_network
from spade_cli.networks.replay import Replay
from spade_cli.pruning import body, find_layers
from spade_cli.pruning.layers import layer_modules


class Net(nn.Module):
    """A stem, two layers of eight channels `a` and `b`, a head; what lies between them is another network's matter."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.middle(self.relu(self.norm(self.stem(x)))).mean((2, 3)))


class Branches(Net):
    """The stem's output is read by both layers, and between the calls of modules."""

    def middle(self, x):
        return F.relu(torch.cat([self.a(x)[:, :4], self.b(x)[:, 4:]], 1) + x) * x.mean()


class Repeated(Net):
    """One module, weight and all, is called before and after the others."""

    def middle(self, x):
        return self.a(self.relu(self.b(self.relu(self.a(x)))))


class Writing(Net):
    """The output of the stem is written into before and after it is read."""

    def middle(self, x):
        first = self.a(x)
        first.mul_(2)
        y = self.b(F.relu(first, inplace=True))
        first += y  # what an earlier module gave
        return self.relu(first)


class Sharing(Net):
    """A module gives the tensor itself that it got, and one of the two is written into."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()

    def middle(self, x):
        y = self.same(x)
        x.mul_(2)
        return self.b(self.a(y))


class Random(Net):
    """Random numbers are drawn on the way."""

    def middle(self, x):
        return self.b(self.a(F.dropout(x, 0.5)) + torch.rand(()))


class Noise(nn.Module):
    """A module that draws random numbers."""

    def forward(self, x):
        return x + torch.rand(())


class RandomModules(Net):
    """Modules draw random numbers, early and late."""

    def __init__(self):
        super().__init__()
        self.early, self.late = Noise(), Noise()

    def middle(self, x):
        return self.b(self.late(self.a(self.early(x))))


class Pairs(Net):
    """A module gives a tuple and a dictionary."""

    class Split(nn.Module):
        """Its halves, and what they are."""

        def forward(self, x):
            return (x[:, :4], {"rest": x[:, 4:], "channels": 8})

    def __init__(self):
        super().__init__()
        self.split = self.Split()

    def middle(self, x):
        first, others = self.split(self.a(x))
        return self.b(torch.cat([others["rest"], first], 1))


class Counting(Net):
    """The number of calls so far is part of the answer."""

    class Counter(nn.Module):
        """Adds how often it was called."""

        calls = 0

        def forward(self, x):
            self.calls += 1
            return x + self.calls

    def __init__(self):
        super().__init__()
        self.counter = self.Counter()

    def middle(self, x):
        return self.b(self.a(self.counter(x)))


class Hooked(Net):
    """A hook of the user's own changes an output."""

    def __init__(self):
        super().__init__()
        self.norm.register_forward_hook(lambda module, inputs, output: output + 1)

    def middle(self, x):
        return self.b(self.a(x))


EXACT = [Branches, Repeated, Writing, Pairs, Hooked]
WHOLE = [Sharing, Counting]


def weights_of(network, *names):
    modules = layer_modules(network)
    return [modules[name].weight for name in names]


def made(kind):
    torch.manual_seed(0)
    return kind().eval()


def work(replay, images, depth):
    """The scores, and the multiplications of convolutions and linear layers."""
    count = []
    with (
        torch.no_grad(),
        watch_calls(lambda *_: None, lambda weight, out: count.append(out.numel() * weight[0].numel())),
    ):
        scores = replay.ask(images, depth)
    return scores, sum(count)


def compare(network, changing, rounds=3):
    """Ask at all depths again and again, with other weights each time; returns the replay."""
    replay = Replay(network, changing)
    generator = torch.Generator().manual_seed(1)
    one, several = (torch.randn(n, 3, 32, 32, generator=generator) for n in (1, 3))
    dense = [[weight.detach().clone() for weight in part] for part in changing]
    before = network.state_dict()
    forwards = [module.forward for module in network.modules()]
    with torch.no_grad():
        for depth in [1, 1, 2, 1, *range(1, len(changing) + 1)] * rounds:
            depth = min(depth, len(changing))
            for part, own in list(zip(changing, dense, strict=True))[:depth]:
                for weight, value in zip(part, own, strict=True):
                    weight.copy_(value * (torch.rand(value.shape, generator=generator) > 0.5))
            for images in (one, several):
                found, expected = replay.ask(images, depth), network(images.clone())
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
            for part, own in zip(changing, dense, strict=True):
                for weight, value in zip(part, own, strict=True):
                    weight.copy_(value)
    assert [module.forward for module in network.modules()] == forwards, "nothing is left on the network"
    assert not any("forward" in vars(module) for module in network.modules())
    assert network.state_dict().keys() == before.keys()
    return replay


@pytest.mark.parametrize("kind", EXACT)
def test_answers_are_those_of_whole_passes(kind):
    network = made(kind)
    assert compare(network, [weights_of(network, "b"), weights_of(network, "a")]).exact


@pytest.mark.parametrize(
    "factory", [small, attentive, "resnet18", "squeezenet1_1", "mobilenet_v3_small", "densenet121"]
)
def test_networks_of_several_families(factory):
    torch.manual_seed(0)
    network = factory() if callable(factory) else models.get_model(factory, weights=None, num_classes=5).eval()
    blocks = list(body(find_layers(network)).values())[:4]
    replay = compare(network, [weights_of(network, *names) for names in blocks], rounds=1)
    assert replay.exact


@pytest.mark.parametrize("kind", WHOLE)
def test_where_replaying_would_answer_otherwise_all_passes_are_whole(kind):
    network = made(kind)
    replay = Replay(network, [weights_of(network, "b"), weights_of(network, "a")])
    for _ in range(3):
        replay.ask(torch.ones(1, 3, 8, 8), 2)
    assert not replay.exact and not replay._kept


@pytest.mark.parametrize("kind", [Random, RandomModules])
def test_random_numbers_are_those_of_a_network_that_is_asked_alone(kind):
    network = made(kind)
    replay = Replay(network, [weights_of(network, "b"), weights_of(network, "a")])
    x = torch.ones(1, 3, 8, 8)
    with torch.no_grad():
        for depth in (1, 2, 1, 1, 2):
            found = ask_network(lambda images, depth=depth: replay.ask(images, depth), x)
            assert torch.equal(found, ask_network(network, x))
        assert replay.exact == (kind is Random), "a replayed module draws nothing, so `late` would draw other numbers"
        torch.manual_seed(5)
        found, expected = replay.ask(torch.zeros(2, 3, 8, 8), 1), torch.rand(())
        torch.manual_seed(5)
        assert torch.equal(found, network(torch.zeros(2, 3, 8, 8))) and torch.equal(expected, torch.rand(()))


def test_watching_takes_none_of_the_networks_random_numbers():
    network = made(Random)
    replay, x = Replay(network, [weights_of(network, "b")]), torch.ones(1, 3, 8, 8)
    torch.manual_seed(5)
    found = replay.ask(x, 1), torch.rand(())
    torch.manual_seed(5)
    with torch.no_grad():
        assert all(map(torch.equal, found, (network(x), torch.rand(()))))


def test_what_runs_before_the_first_changed_weight_is_not_run_again():
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(6))).eval()
    replay = Replay(network, [weights_of(network, str(at)) for at in (5, 4, 3, 2, 1)])
    x, samples = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 8, 8)
    each = 3 * 8 * 8 * 27
    for images in (x, samples):
        replay.ask(images, 1)
    for depth in (1, 2, 3, 4, 5):
        replay.ask(x, depth)  # the first time it is compared
        for images in (x, samples):
            assert work(replay, images, depth)[1] == len(images) * depth * each
    assert {call[0] for call in replay._kept[0].outputs} == set(list(network)[:5])


def test_only_what_is_read_again_takes_memory():
    network = made(Branches)
    replay = Replay(network, [weights_of(network, "a", "b")])
    replay.ask(torch.ones(1, 3, 8, 8), 1)
    (known,) = replay._kept
    real = {call[0] for call, output in known.outputs.items() if output.isfinite().all()}
    assert real == {network.relu} and {call[0] for call in known.outputs} == {network.stem, network.norm, network.relu}


@pytest.mark.parametrize(("memory", "deepest"), [(0, 0), (3 * 8 * 8 * 4, 1), (3 * 3 * 8 * 8 * 4, 3)])
def test_memory_limits_how_deep_passes_are_cut(memory, deepest):
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(6))).eval()
    replay = Replay(network, [weights_of(network, str(at)) for at in (5, 4, 3, 2, 1)], memory)
    x, each = torch.randn(1, 3, 8, 8), 3 * 8 * 8 * 27
    for depth in (1, 2, 3, 4, 5):
        replay.ask(x, depth)
        replay.ask(x, depth)
        scores, done = work(replay, x, depth)
        assert done == (depth if depth <= deepest else 6) * each
        torch.testing.assert_close(scores, network(x))


def test_a_network_that_cannot_be_watched_is_asked_as_a_whole():
    class Strict(nn.Module):
        """Its forward stands in the way of being replaced."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            assert "forward" not in vars(self)
            return self.layer(x.mean((2, 3)))

    network = Strict()
    replay, x = Replay(network, [[network.layer.weight]]), torch.ones(2, 3, 4, 4)
    assert torch.equal(replay.ask(x, 1), network(x)) and not replay.exact
    assert torch.equal(replay.ask(x, 1), network(x))
