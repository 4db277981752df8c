"""Pictures climb the channel they are asked to, and the network is left as it was."""

import copy

import numpy as np
import pytest
import torch
from test_explainable import hooks
from torch import nn
from zoo import picture, randomised, small_convolutional

from spade_cli.errors import SpadeError, UserError
from spade_cli.interpretation import VISUALIZERS, Channel, check_channels, is_blank, parse_channel, takes_image
from spade_cli.interpretation.channels import channel_axis, observe_layers
from spade_cli.interpretation.contribution import contributions
from spade_cli.interpretation.visualization.lucent_loop import _lucent_on
from spade_cli.interpretation.visualization.visualizer import find_not_finite
from spade_cli.networks.modes_and_seeds import seed_generators

FROM_NOISE = {name: one for name, one in VISUALIZERS.items() if not takes_image(one)}
SETTINGS = {"size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
TARGETS = [Channel(None, 1), Channel("3", 2), Channel("0", 4)]
by_each = pytest.mark.parametrize("visualize", FROM_NOISE.values(), ids=FROM_NOISE)


class Tokens(nn.Module):
    """(N, 3, H, W) -> tokens (N, T, C) -> (N, classes)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.encode = nn.Linear(6, 6)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.encode(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def shown(pictures):
    mean, std = (torch.tensor(SETTINGS[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (pictures - mean) / std


def response(network, pictures, target):
    """Mean over twenty of the ways a picture is moved about, the same twenty each time."""
    cpu, total = torch.device("cpu"), 0.0
    lucent, seen_by = _lucent_on(cpu), observe_layers(network, [target.layer])
    with lucent as (_, _, transforms), seed_generators(0, cpu), seen_by as observe, torch.no_grad():
        for _ in range(20):
            seen = nn.functional.interpolate(transforms(pictures), size=(32, 32), mode="bilinear", align_corners=True)
            total += target.read(observe(shown(seen))[target.layer]).mean().item() / 20
    return total


@by_each
def test_each_picture_climbs_its_own_channel(visualize):
    network = small_convolutional()
    start = visualize([network], TARGETS, **SETTINGS, steps=0)
    found = visualize([network], TARGETS, **SETTINGS, steps=40)
    assert found.shape == (3, 3, 32, 32) and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1
    for n, target in enumerate(TARGETS):
        assert response(network, found[n : n + 1], target) > response(network, start[n : n + 1], target)
        assert is_blank(start[n]) and not is_blank(found[n])


@by_each
def test_no_picture_climbs_anothers_channel(visualize):
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    network[0].weight.data = torch.eye(3).view(3, 3, 1, 1)  # each channel is a colour's mean
    targets = [Channel("0", channel) for channel in range(3)]
    found = visualize([network], targets, **SETTINGS, steps=40)
    for target in targets:
        responses = [response(network, found[n : n + 1], target) for n in range(len(targets))]
        assert responses.index(max(responses)) == target.channel


def test_responses_are_means_of_the_channel():
    maps, vector, tokens = torch.rand(1, 4, 5, 6), torch.rand(1, 4), torch.rand(1, 7, 4)
    target = Channel(None, 2)
    assert target.read(maps).mean() == pytest.approx(sum(maps[0, 2].flatten().tolist()) / 30)
    assert target.read(vector).mean() == vector[0, 2]
    assert target.read(tokens).mean() == pytest.approx(sum(tokens[0, :, 2].tolist()) / 7)


def test_a_direction_is_a_sum_of_channels():
    maps, target = torch.rand(1, 4, 5, 6), parse_channel("a.b:2+0.5*3-1+2*0")
    assert target == Channel("a.b", 2, ((0.5, 3), (-1.0, 1), (2.0, 0)))
    for row in range(5):
        for column in range(6):
            one, two, three, four = maps[0, :, row, column].tolist()
            wanted = three + 0.5 * four - two + 2 * one
            assert target.read(maps)[0, row, column].item() == pytest.approx(wanted, abs=1e-6)
    assert str(target) == "a.b:2+0.5*3-1+2*0" and parse_channel(str(target)) == target
    assert parse_channel("a:7") == Channel("a", 7)
    for other in ("tabby", "7", "a:", ":7", "a:b", "a:7+", "a:7+0.5*", "a:-7", "a:7*2", "a:7 + 2"):
        assert parse_channel(other) is None, other


class LastChannels(nn.Module):
    """Maps (N, 4, 4, C) inside, as Swin has them, and something made of weights alone, as Swin's positions are."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patches, self.between = nn.Conv2d(3, channels, 8, 8), nn.Linear(channels, channels)
        self.norm, self.block = nn.LayerNorm(channels), nn.Identity()
        self.position, self.head = nn.Linear(2, channels), nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.between(self.patches(x).permute(0, 2, 3, 1))) + self.position(torch.ones(1, 2))
        return self.head(self.block(x).mean((1, 2)))


@pytest.mark.parametrize(("channels", "layers"), [(6, ("between", "norm", "block")), (4, ("between", "norm"))])
def test_channels_that_come_last(channels, layers):
    """As many rows as channels, or not: the picture climbs sum over positions of one channel."""
    network, found = randomised(LastChannels(channels)), {}
    for name in layers:
        network.get_submodule(name).register_forward_hook(lambda m, x, y, name=name: found.update({name: y}))
    network(picture(32))
    for name in layers:
        wanted = sum(found[name][0, row, column, 2].item() for row in range(4) for column in range(4)) / 16
        assert Channel(name, 2).read(found[name], network.get_submodule(name)).mean().item() == pytest.approx(wanted)
        assert contributions(network, picture(32), 0, [name])[name].shape == (channels, 4, 4)
        with pytest.raises(UserError, match=f"channels 0 to {channels - 1}"):
            check_channels(network, picture(32), [Channel(name, channels)])
    assert channel_axis((1, 4, 4, 4), nn.Conv2d(4, 4, 1)) == channel_axis((1, 8, 3, 3)) == 1
    assert channel_axis((1, 4, 9), nn.Conv1d(3, 4, 1)) == 1 and channel_axis((1, 9, 4)) == 2
    assert channel_axis((1, 5, 4, 4), nn.Linear(4, 4)) == 3, "whatever its place looks like"
    assert channel_axis((1, 5, 4, 4), type("Moved", (nn.Linear,), {"forward": None})(4, 4)) == 1


@by_each
def test_what_does_not_depend_on_the_picture_is_refused(visualize):
    network = randomised(LastChannels(6))
    line = "the output of layer 'position' does not depend on the picture, so no picture can excite it"
    with pytest.raises(UserError, match=line):
        check_channels(network, picture(32), [Channel(None, 0), Channel("position", 0)])
    for trained in (True, False):
        network.requires_grad_(trained)
        with pytest.raises(SpadeError, match=r"^visualization of position:0: the output does not depend on the pic"):
            visualize([network], [Channel(None, 0), Channel("position", 0)], **SETTINGS, steps=1)
        assert all(weight.requires_grad == trained for weight in network.parameters())


@by_each
def test_the_network_is_left_as_it_was(visualize):
    network = small_convolutional()
    network.train()
    network[3].eval()
    network[0].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    state = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    steps = []
    visualize([network], TARGETS, **SETTINGS, steps=2, on_step=lambda step, of: steps.append((step, of)))
    assert steps == [(1, 2), (2, 2)]
    assert network.training and not network[3].training and network[4].training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()].count(False) == 1
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(state[0], torch.get_rng_state()) and state[1] == np.random.get_state()[1].tobytes()
    with pytest.raises(ZeroDivisionError):
        visualize([network], TARGETS, **SETTINGS, steps=2, on_step=lambda step, of: step / 0)
    assert hooks(network) == 0 and network.training and not network[3].training


@by_each
def test_the_same_seed_gives_the_same_bytes(visualize):
    network = small_convolutional()
    first, second, other = (visualize([network], TARGETS, **SETTINGS, steps=3, seed=seed) for seed in (4, 4, 5))
    assert first.numpy().tobytes() == second.numpy().tobytes() != other.numpy().tobytes()


def test_a_layer_is_read_before_what_changes_it_in_place():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 30 * 30, 2))
    with observe_layers(network, ["0"]) as observe:
        assert observe(picture(32))["0"].min() < 0


@by_each
def test_the_network_sees_its_own_size_and_normalisation(visualize):
    seen = []

    class Watched(nn.Module):
        def forward(self, x):
            seen.append(x.detach())
            return x.mean((2, 3))

    visualize([Watched()], [Channel(None, 0)], **SETTINGS, steps=4)
    assert {tuple(x.shape[1:]) for x in seen} == {(3, 32, 32)}
    centre = torch.stack([x[0, :, 12:20, 12:20].mean((1, 2)) for x in seen[:1]])[0]  # mid-grey at the start
    assert torch.allclose(centre, shown(torch.full((1, 3, 1, 1), 0.5)).flatten(), atol=0.1)


def test_lucents_devices_are_put_back():
    from lucent.optvis import transform
    from lucent.optvis.param import spatial

    was = spatial.device, transform.device
    with pytest.raises(ZeroDivisionError), _lucent_on(torch.device("meta")):
        assert spatial.device.type == transform.device.type == "meta"
        raise ZeroDivisionError
    assert (spatial.device, transform.device) == was


@by_each
def test_errors_of_the_network_are_not_swallowed(visualize):
    fussy = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        visualize([fussy], [Channel("0", 0)], **SETTINGS, steps=1)
    assert hooks(fussy) == 0
    broken = small_convolutional()
    broken[0].weight.data.fill_(float("nan"))
    with pytest.raises(SpadeError, match=r"output:1 stopped being finite at step 1 of 2"):
        visualize([broken], [Channel(None, 1)], **SETTINGS, steps=2)


def test_blank_pictures():
    noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert is_blank(torch.full((3, 16, 16), 0.5)) and is_blank(0.5 + 0.003 * noise)
    assert is_blank(torch.full((3, 16, 16), float("nan")))
    assert not is_blank((0.5 + 0.1 * noise).clamp(0, 1))


def test_channels_are_checked():
    network = randomised(Tokens()).train()
    check_channels(network, picture(32), [Channel(None, 4), Channel("encode", 5), Channel("patches", 5)])
    assert network.training and hooks(network) == 0
    for channel, line in (
        (Channel(None, 5), r"channel 5 of the network's output asked for; it has channels 0 to 4"),
        (Channel("encode", 6), r"channel 6 of layer 'encode' .* 0 to 5"),
        (Channel("encode", -1), r"channel -1 .* 0 to 5"),
        (Channel("encode", 1, ((2.0, 6),)), r"channel 6 of layer 'encode' .* 0 to 5"),
        (Channel("patchs", 0), r"no layer 'patchs' among the network's 4 layers; did you mean patches\?.*spade layers"),
        (Channel("zzz", 0), r"no layer 'zzz' among the network's 4 layers; `spade layers`"),
        (Channel("unused", 0), r"layer 'unused' was not run"),
    ):
        with pytest.raises(UserError, match=line):
            check_channels(network, picture(32), [channel])


@by_each
def test_the_channel_that_stops_being_finite_is_named(visualize):
    network = small_convolutional()
    network[-1].weight.data[3] = float("nan")
    with pytest.raises(SpadeError, match=r"^visualization of output:3 stopped being finite at step 1 of 2$"):
        visualize([network], [Channel(None, 1), Channel(None, 3), Channel("3", 2)], **SETTINGS, steps=2)


def test_which_pictures_stopped_being_finite():
    inf, nan = float("inf"), float("nan")
    fine, spoilt = torch.zeros(3, 2, 2), torch.full((3, 2, 2), nan)
    one = fine.clone()
    one[2, 0, 1] = inf
    assert find_not_finite(torch.tensor([1.0, nan, inf]), spoilt) == [1, 2]  # the other's gradient is their doing
    assert find_not_finite(torch.ones(3), one) == [2]
    assert find_not_finite(torch.ones(3), fine) == []
