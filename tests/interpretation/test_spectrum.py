"""The default visualization, restated slowly: its frequencies, its crops, its networks, and starts that are silent."""

import math
from functools import partial

import pytest
import torch
from map_networks import SwitchedOff
from torch import nn
from zoo import small_convolutional

from spade_cli.interpretation import Channel, is_blank, visualize
from spade_cli.interpretation.visualization.climb import draw_crops, draw_views
from spade_cli.interpretation.visualization.spectrum import COLOURS, draw_spectrum, make_pictures, scale_frequencies

SETTINGS = {"size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
TARGETS = [Channel(None, 1), Channel("3", 2)]


@pytest.mark.parametrize("size", [6, 7, (6, 9), (8, 5)])
def test_a_picture_is_the_sum_of_its_waves(size):
    """Every pixel from every coefficient, one by one, with conjugates for the half that is not kept."""
    spectrum = draw_spectrum(size, torch.Generator().manual_seed(0)) * 50
    height, width = (size, size) if isinstance(size, int) else size
    half = width // 2 + 1
    frequencies = [[math.hypot(min(v, height - v) / height, u / width) for u in range(half)] for v in range(height)]
    plain = [[max(frequency, 1 / max(height, width)) ** -1.5 for frequency in row] for row in frequencies]
    mean = sum(map(sum, plain)) / (height * half)
    assert torch.allclose(scale_frequencies(size), torch.tensor(plain) / mean)
    found = make_pictures(spectrum, size)[0]
    for row, column in ((0, 0), (1, 4), (5, 2)):
        values = []
        for colour in range(3):
            total = 0.0
            for v in range(height):
                for u in range(half):
                    real, imaginary = (spectrum[0, colour, v, u] * plain[v][u] / mean).tolist()
                    angle = 2 * math.pi * (v * row / height + u * column / width)
                    if u in (0, width / 2):  # its own mirror image: both halves are there
                        total += real * math.cos(angle) - imaginary * math.sin(angle)
                    else:
                        total += 2 * (real * math.cos(angle) - imaginary * math.sin(angle))
            values.append(total / math.sqrt(height * width))
        for colour in range(3):
            logit = sum(float(COLOURS[colour, other]) * values[other] for other in range(3))
            assert found[colour, row, column].item() == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-5)


def test_the_colours_are_lucents():
    from lucent.optvis.param import color

    assert torch.allclose(COLOURS, torch.tensor(color.color_correlation_normalized), atol=1e-5)


def test_crops_lie_inside_and_are_as_large_and_as_central_as_promised():
    crops = draw_crops(200, 4000, torch.Generator().manual_seed(0))
    assert all(height == width for *_, height, width in crops)
    sides = torch.tensor([side for *_, side in crops]) / 200
    assert all(0 <= top <= 200 - side and 0 <= left <= 200 - side for top, left, _, side in crops)
    assert sides.min() >= 0.45 and sides.max() <= 1 and sides.mean().item() == pytest.approx(0.725, abs=0.01)
    small = [(top + side / 2, left + side / 2) for top, left, _, side in crops if side < 96]
    centres = torch.tensor(small) / 200
    inside = (0.5 + 0.15 * torch.randn(4000, generator=torch.Generator().manual_seed(1))).clamp(0.235, 0.765)
    assert centres.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert centres.std(0).tolist() == pytest.approx([inside.std().item()] * 2, abs=0.02)
    assert draw_crops(1, 3, torch.Generator()) == [(0, 0, 1, 1)] * 3


def test_crops_have_the_pictures_proportions():
    crops = draw_crops((100, 400), 200, torch.Generator().manual_seed(0))
    assert all(0 <= top <= 100 - height and 0 <= left <= 400 - width for top, left, height, width in crops)
    assert all(abs(width - 4 * height) <= 2.5 for *_, height, width in crops)
    squares = draw_crops(400, 200, torch.Generator().manual_seed(0))
    assert [(left, width) for _, left, _, width in crops] == [(left, width) for _, left, _, width in squares]


def test_a_view_is_an_enlarged_crop_with_noise():
    pictures = torch.rand(2, 3, 32, 32)
    views = draw_views(32, 3, torch.Generator().manual_seed(5))(pictures).view(2, 3, 3, 32, 32)
    crops = draw_crops(32, 3, torch.Generator().manual_seed(5))
    noise = []
    for n in range(2):
        for crop, (top, left, _, side) in enumerate(crops):
            whole = pictures[n : n + 1, :, top : top + side, left : left + side]
            noise.append(views[n, crop] - nn.functional.interpolate(whole, (32, 32), mode="bilinear")[0])
    assert torch.allclose(torch.stack(noise[:3]), torch.stack(noise[3:]), atol=1e-6)  # the same for both pictures
    assert not torch.allclose(noise[0], noise[1], atol=1e-2)
    for one in noise:
        assert one.std().item() == pytest.approx(0.1 * 32 / 224, rel=0.1) and abs(one.mean()) <= 0.03


def test_several_networks_are_climbed_together():
    """One step of Adam goes where the sum of the slopes of all networks goes; one network is that one alone."""
    networks = [small_convolutional(), small_convolutional()]
    networks[1][0].weight.data = networks[1][0].weight.data.flip(0)
    draw = partial(visualize, targets=TARGETS, **SETTINGS, steps=1, learning_rate=0.5)
    both, twice = draw(networks), draw([networks[0]] * 2)
    alone = [draw([network]) for network in networks]
    assert torch.allclose(twice, alone[0], atol=1e-6)
    assert not torch.allclose(both, alone[0], atol=1e-3) and not torch.allclose(both, alone[1], atol=1e-3)

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.networks = nn.ModuleList(networks)

        def forward(self, x):
            return sum(network(x) for network in self.networks)

    summed = visualize([Sum()], [Channel(None, 1)], **SETTINGS, steps=8)
    assert torch.allclose(visualize(networks, [Channel(None, 1)], **SETTINGS, steps=8), summed, atol=1e-3)


def test_a_picture_does_not_depend_on_the_others():
    network = small_convolutional()
    both = visualize([network], TARGETS, **SETTINGS, steps=6)
    for n, target in enumerate(TARGETS):
        assert torch.allclose(visualize([network], [target], **SETTINGS, steps=6)[0], both[n], atol=1e-4)


def test_crops_do_not_depend_on_what_a_network_draws():
    seen = []

    class Draws(nn.Module):
        def forward(self, x):
            seen.append(x.detach())
            torch.rand(1 if len(seen) % 2 else 3)
            return x.mean((2, 3))

    for networks in ([Draws()], [Draws(), Draws()]):
        visualize(networks, [Channel(None, 0)], **SETTINGS, steps=1)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[2])


def test_a_channel_that_the_start_does_not_excite_wakes_up():
    network = SwitchedOff().eval()
    settings = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    alive, dead = (Channel("relu", one) for one in (SwitchedOff.BRIGHT, SwitchedOff.DEAD))
    start = visualize([network], [alive, dead], **settings, steps=0)
    with torch.no_grad():
        assert not network.relu(network.conv(2 * start - 1))[:, alive.channel].any()
        found = visualize([network], [alive, dead], **settings, steps=60)
        assert network.relu(network.conv(2 * found[:1] - 1))[0, alive.channel].any()
    assert not is_blank(found[0]) and torch.equal(found[1], start[1])


def test_a_network_that_sleeps_does_not_stop_the_others():
    awake, sleeps = SwitchedOff().eval(), SwitchedOff().eval()
    sleeps.conv.bias.data.fill_(-100.0)
    settings = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    assert not is_blank(visualize([awake, sleeps], [Channel("relu", SwitchedOff.BRIGHT)], **settings, steps=60)[0])
