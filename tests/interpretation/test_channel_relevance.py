"""Relevance through single channels: as loops over the rule give it, summing to the whole map; and known circuits."""

import pytest
import torch
from networks import small
from torch import nn

from spade_cli.errors import UserError
from spade_cli.inspection.rank_channels import pick_layers
from spade_cli.interpretation import CannotExplain, Channel, ask_question, explainable, lrp
from spade_cli.interpretation.channel_relevance import follow_relevance
from spade_cli.interpretation.rewrite.layer_nodes import Stop, find_layer_nodes, widen_to_blocks
from spade_cli.networks.question import Question

RED, BLUE = (slice(0, 4), slice(0, 4)), (slice(8, 12), slice(4, 12))  # rows and columns: 16 and 32 pixels


def channels(layer, count):
    return [Channel(layer, number) for number in range(count)]


def follow(model, image, target, asked):
    return follow_relevance(explainable(model, image), image, target, asked)


def share_back(inputs, weight, relevance):
    """The rule of `lrp` in loops: each output's relevance to the inputs whose contributions have the output's sign."""
    given = torch.zeros_like(inputs)
    for out in range(len(weight)):
        parts = inputs * weight[out]
        parts = parts.clamp(min=0) if parts.sum() >= 0 else parts.clamp(max=0)
        if parts.sum():
            given += parts / parts.sum() * relevance[out]
    return given


def test_maps_and_edges_are_those_of_the_definition_in_loops():
    torch.manual_seed(1)
    first, second, last = (nn.Linear(12, 6, bias=False), nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False))
    model = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last).eval()
    image = torch.randn(1, 3, 2, 2)
    with torch.no_grad():
        one, two = first(image.flatten()).relu(), second(first(image.flatten()).relu()).relu()
        target = int(model(image).argmax())
        score = float(model(image)[0, target])
        at_last = torch.zeros(3)
        at_last[target] = score
        at_two = share_back(two, last.weight, at_last)
        found = follow(model, image, target, [*channels("1", 6), *channels("3", 5)])
        assert found.rule == "lrp" and found.warnings == ()
        for channel in range(5):
            alone = torch.zeros(5)
            alone[channel] = at_two[channel]
            at_one = share_back(one, second.weight, alone)
            pixels = share_back(image.flatten(), first.weight, at_one)
            asked = Channel("3", channel)
            assert found.maps[asked].flatten().allclose(pixels, atol=1e-6)
            assert found.share[asked] == pytest.approx(float(at_two[channel]) / score, abs=1e-6)
            assert found.feeds.get((asked, None), 0.0) == pytest.approx(float(at_two[channel]) / score, abs=1e-6)
            for giver in range(6):
                expected = float(at_one[giver] / at_two[channel]) if at_two[channel] else 0.0
                assert found.feeds.get((Channel("1", giver), asked), 0.0) == pytest.approx(expected, abs=1e-6)
        assert all(to is not None for source, to in found.feeds if source.layer == "1"), "all of it passes layer 3"


def convolutional():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 5, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    )
    nn.init.uniform_(model[1].running_mean, -0.3, 0.3)
    nn.init.uniform_(model[1].weight, 0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("against", [(), ((-1.0, 1),)], ids=["class", "contrast"])
def test_the_maps_of_a_layer_sum_to_the_whole_map(against):
    model, image = convolutional(), torch.randn(1, 3, 16, 16)
    network, target = ask_question(explainable(model, image), Question(0, against))
    whole = lrp(network, image, target)
    found = follow_relevance(network, image, target, [*channels("0", 6), *channels("3", 5)])
    assert found.conservation == pytest.approx(whole.checks["conservation"], abs=1e-5)
    for layer in ("0", "3"):
        maps = [map for channel, map in found.maps.items() if channel.layer == layer]
        assert sum(maps).allclose(whole.map, atol=1e-5 * float(whole.map.abs().max()))
        assert not maps[0].allclose(whole.map, atol=1e-3 * float(whole.map.abs().max()))
    score = float(network.model(image)[0, target])
    for channel, share in found.share.items():
        assert float(found.maps[channel].sum()) == pytest.approx(share * score, abs=1e-4 * abs(score))
        given = [found.feeds.get((giver, channel), 0.0) for giver in channels("0", 6)]
        if channel.layer == "3" and share:
            assert sum(given) == pytest.approx(1, abs=1e-4), "all that passes layer 3 comes from layer 0"
    told = sum(found.feeds.get((one, None), 0.0) for one in channels("3", 5))
    assert told == pytest.approx(found.conservation, abs=1e-4)


def test_around_a_layer_goes_what_its_channels_do_not_get():
    model, image = small(), torch.randn(1, 3, 32, 32)
    target = int(model(image).argmax())
    whole = lrp(explainable(model, image), image, target).map
    found = follow(model, image, target, [*channels("stem", 8), *channels("conv1", 8), *channels("conv2", 8)])
    sums = {layer: sum(found.share[one] for one in channels(layer, 8)) for layer in ("stem", "conv1", "conv2")}
    assert sum(found.maps[one] for one in channels("stem", 8)).allclose(whole, atol=1e-5 * float(whole.abs().max()))
    assert 0 < sums["conv2"] < 0.99 * sums["stem"], "part of it takes the shortcut"
    straight = {layer: sum(found.feeds.get((one, None), 0.0) for one in channels(layer, 8)) for layer in sums}
    assert found.passing == pytest.approx(sums)
    assert straight["conv1"] == 0 and straight["conv2"] == pytest.approx(sums["conv2"])
    assert straight["stem"] + straight["conv2"] == pytest.approx(1, abs=1e-4)


class Known(nn.Module):
    """Class 0 sees hidden 2 twice and hidden 0 once; hidden 2 sees red, and, as a distractor, half of blue."""

    def __init__(self, distractor):
        super().__init__()
        self.seen, self.hidden = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 3, 1, bias=False)
        self.relu, self.head = nn.ReLU(), nn.Linear(3, 2, bias=False)
        for layer in (self.seen, self.hidden, self.head):
            nn.init.zeros_(layer.weight)
        with torch.no_grad():
            self.seen.weight[0, 1] = self.seen.weight[1, 0] = self.seen.weight[2, 2] = 1  # green, red, blue; 3 is dead
            self.hidden.weight[2, 1], self.hidden.weight[2, 2] = 1, 0.5 if distractor else 0
            self.hidden.weight[0, 2] = 1
            self.head.weight[0] = torch.tensor([1.0, 0.0, 2.0])

    def forward(self, x):
        return self.head(self.relu(self.hidden(self.relu(self.seen(x)))).mean((2, 3)))


@pytest.mark.parametrize("distractor", [True, False], ids=["dense", "trace"])
def test_a_known_circuit_is_found(distractor):
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0][RED] = 1
    image[0, 2][BLUE] = 1
    red, blue, hidden = Channel("seen", 1), Channel("seen", 2), Channel("hidden", 2)
    found = follow(Known(distractor).eval(), image, 0, [*channels("seen", 4), *channels("hidden", 3)])
    # hidden 2 sums to 16 of red and 16 of blue (32 pixels, half each); hidden 0 to 32 of blue
    passes = 2 * (16 + 16 * distractor)
    assert found.share[hidden] == pytest.approx(passes / (passes + 32), abs=1e-5)
    edges = {red: 0.5, blue: 0.5} if distractor else {red: 1.0}
    assert {source: share for (source, to), share in found.feeds.items() if to == hidden} == pytest.approx(
        edges, abs=1e-5
    )
    assert {source for (source, to) in found.feeds if to is None} == {hidden, Channel("hidden", 0)}
    where = found.maps[hidden].abs().sum(0)
    assert float(where[RED].sum()) == pytest.approx(float(where.sum()) * (0.5 if distractor else 1), rel=1e-4)
    assert float(found.maps[red].abs().sum(0)[RED].sum()) == pytest.approx(float(found.maps[red].abs().sum()))
    dead = Channel("seen", 3)
    assert found.share[dead] == 0 == found.maps[dead].abs().max() and all(dead not in pair for pair in found.feeds)


class Block(nn.Module):
    """Tokens, a transformer's MLP with its residual, and a layer of one channel at the end."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8)
        self.fc1, self.fc2, self.act, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 1)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT  # (N, T, 8)
        return self.head((tokens + self.fc2(self.act(self.fc1(self.norm(tokens))))).mean(1))


def test_tokens_and_a_layer_of_one_channel():
    torch.manual_seed(0)
    model, image = Block().eval(), torch.randn(1, 3, 16, 16)
    counts = {"patches": 8, "fc1": 16, "fc2": 8, "head": 1}
    asked = [one for layer, count in counts.items() for one in channels(layer, count)]
    network = explainable(model, image)
    found, whole = follow_relevance(network, image, 0, asked), lrp(network, image, 0).map
    sums = {layer: sum(found.maps[one] for one in channels(layer, count)) for layer, count in counts.items()}
    for layer in ("patches", "head"):
        assert sums[layer].allclose(whole, atol=1e-4 * float(whole.abs().max()))
    assert found.share[Channel("head", 0)] == pytest.approx(1)
    passing = {layer: sum(found.share[one] for one in channels(layer, counts[layer])) for layer in ("fc1", "fc2")}
    assert passing["fc1"] == pytest.approx(passing["fc2"], abs=1e-4) and abs(passing["fc2"] - 1) > 1e-3
    assert sums["fc1"].allclose(sums["fc2"], atol=1e-4 * float(whole.abs().max()))


class Odd(nn.Module):
    """One layer that is called twice, one that is not, and one that is never called."""

    def __init__(self, step=torch.relu):
        super().__init__()
        self.stem, self.twice, self.never = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 4)
        self.head, self.step = nn.Linear(4, 2), step

    def forward(self, x):
        return self.head(self.twice(self.step(self.twice(self.step(self.stem(x))))).mean((2, 3)))


def test_what_has_no_single_map_is_told_in_a_line_and_the_rest_is_shown():
    torch.manual_seed(0)
    model, image = Odd().eval(), torch.randn(1, 3, 8, 8)
    found = follow(model, image, 0, [Channel(layer, 0) for layer in ("stem", "twice", "never", "lost", "head")])
    assert {one.layer for one in found.maps} == {"stem", "head"}
    lines = "\n".join(found.warnings)
    assert "layer 'twice' is called 2 times" in lines and "layer 'never' is never called" in lines
    assert "layer 'lost' is not in the network" in lines
    norm = follow(small(), torch.randn(1, 3, 16, 16), 0, [Channel("norm", 0), Channel("stem", 1)])
    assert list(norm.maps) == [Channel("stem", 1)] and "layer 'norm' is folded" in norm.warnings[0]
    with pytest.raises(UserError, match=r"channel 4 of layer 'stem' asked for; it has 0 to 3"):
        follow(model, image, 0, [Channel("stem", 4)])


def test_without_a_rule_it_is_gradient_times_activation_and_says_so():
    torch.manual_seed(0)
    model, image = Odd(torch.sin).eval(), torch.randn(1, 3, 8, 8, requires_grad=True)
    found = follow(model, image, 1, channels("stem", 4))
    assert found.rule == "gradient" and "lrp has no sound rule for sin" in found.warnings[0]
    outputs = []
    model.stem.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    score = model(image)[0, 1]
    (slope,) = torch.autograd.grad(score, outputs[0], retain_graph=True)
    parts = (slope * outputs[0] / score).detach()
    for channel in range(4):
        expected = float(parts[0, channel].sum())
        assert found.share[Channel("stem", channel)] == pytest.approx(expected, abs=1e-5)
    (whole,) = torch.autograd.grad(score, image)
    assert sum(found.maps.values()).allclose((whole * image)[0].detach(), atol=1e-6)


def test_networks_that_cannot_be_rewritten_or_say_zero_are_refused():
    class Conditional(Odd):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    with pytest.raises(CannotExplain, match="rewritten copy"):
        follow(Conditional().eval(), torch.rand(1, 3, 8, 8), 0, [Channel("stem", 0)])
    silent = Known(False).eval()
    with pytest.raises(CannotExplain, match="exactly 0"):
        follow(silent, torch.rand(1, 3, 16, 16), 1, [Channel("seen", 0)])


def test_nothing_is_left_on_the_network():
    model, image = small(), torch.randn(1, 3, 16, 16)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = explainable(model, image)
    code = network.model.code
    follow_relevance(network, image, 0, [Channel("conv1", 0)])
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules()) and network.model.code == code


def test_layers_that_a_shortcut_leads_around_are_widened_to_their_block():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks = nn.Conv2d(3, 8, 3), nn.Sequential(Branch(), Branch())
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.blocks(self.stem(x).relu()).mean((2, 3)))

    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return x + self.two(self.one(x).relu())

    image = torch.randn(1, 3, 8, 8)
    asked = ["stem", "blocks.0.one", "blocks.0.two", "blocks.1.two", "head"]
    found = widen_to_blocks(explainable(Deep().eval(), image), image, asked)
    assert [stop.name for stop in found] == ["stem", "blocks.0", "blocks.1", "head"]
    assert found[1].layers == ("blocks.0.one", "blocks.0.two") and found[1].shape == (1, 8, 6, 6)
    assert [stop.is_block for stop in found] == [False, True, True, False]
    # in small() the shortcut is not in a module of its own: nothing can stand for the branch
    assert [one.name for one in widen_to_blocks(explainable(small(), image), image, ["conv1", "stem"])] == [
        "conv1",
        "stem",
    ]


def test_a_network_that_draws_random_numbers_keeps_its_layers():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.mix, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.mix(nn.functional.dropout(self.stem(x), 0.5, True)).mean((2, 3)))

    image = torch.randn(1, 3, 8, 8)
    nodes, lines = find_layer_nodes(explainable(Noisy().eval(), image), image, ["stem", "mix"])
    assert list(nodes) == ["stem", "mix"] and lines == []


def test_of_blocks_the_last_of_each_stage_is_shown_and_of_layers_the_last_pruned_ones():
    def block(name, width):
        return Stop(name, (f"{name}.conv",), (1, width, 7, 7))

    stem, head = (Stop(name, (name,), (1, 4)) for name in ("stem", "head"))
    one, two = [block("1.0", 8), block("1.1", 8)], [block("2.0", 16), block("2.1", 16), block("2.2", 16)]
    assert pick_layers([stem, *one, *two, head], {"2.2.conv", "head"}) == ["1.1", "2.2", "head"]
    assert pick_layers([stem, *one, *two, head], {"2.0.conv", "2.1.conv", "2.2.conv"}) == ["1.1", "2.0", "2.1", "2.2"]
    plain = [Stop(str(number), (str(number),), (1, 8)) for number in range(9)]
    assert pick_layers(plain, {"1", "3", "4", "6", "8"}) == ["3", "4", "6", "8"]
