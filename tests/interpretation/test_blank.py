"""A blank picture's reason: dead is what no picture changes, and nothing else."""

import pytest
import torch
from map_networks import SwitchedOff
from zoo import small_convolutional

from spade_cli.interpretation import VISUALIZERS, Channel, is_blank, takes_image, visualize, why_blank
from spade_cli.interpretation.visualization.blank import DEAD, TOO_FEW_STEPS, UNLUCKY

FROM_NOISE = {name: one for name, one in VISUALIZERS.items() if not takes_image(one)}
SETTINGS = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        (Channel("relu", SwitchedOff.DEAD), DEAD),
        (Channel("out", SwitchedOff.DEAD), DEAD),  # constant, at each place another one
        (Channel(None, 2), DEAD),
        (Channel("relu", SwitchedOff.BRIGHT), UNLUCKY),
        (Channel("relu", SwitchedOff.PATTERN), UNLUCKY),
        (Channel("conv", SwitchedOff.DEAD), TOO_FEW_STEPS),  # before the ReLU it responds
        (Channel(None, 1), UNLUCKY),  # its class depends on what is switched off
    ],
)
@pytest.mark.parametrize("visualize", FROM_NOISE.values(), ids=FROM_NOISE)
def test_why_a_picture_is_blank(visualize, channel, why):
    network = SwitchedOff().eval()
    state = torch.get_rng_state()
    assert is_blank(visualize([network], [channel], **SETTINGS, steps=0)[0])
    assert why_blank(visualize, [network], channel, **SETTINGS) == why
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weight.requires_grad for weight in network.parameters())


def test_dead_is_what_stays_blank_however_long_it_climbs():
    network = SwitchedOff().eval()
    dead, alive = (Channel("relu", one) for one in (SwitchedOff.DEAD, SwitchedOff.BRIGHT))
    assert is_blank(visualize([network], [dead], **SETTINGS, steps=200)[0])
    with torch.no_grad():
        bright = network.relu(network.conv(torch.ones(1, 3, 32, 32)))[0]
    assert bright[alive.channel].any() and not bright[dead.channel].any()


def test_channels_that_respond_only_need_steps():
    for channel in (Channel(None, 1), Channel("3", 2)):
        assert why_blank(visualize, [small_convolutional()], channel, **SETTINGS) == TOO_FEW_STEPS
