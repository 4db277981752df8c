"""Whether a picture stayed blank, and why: a dead channel, an unlucky start, or too few steps."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.interpretation.channels import Channel, observe_layers
from spade_cli.interpretation.visualization.leaky_relus import LeakyReLUs
from spade_cli.interpretation.visualization.visualizer import Visualizer, normalisation
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.sizes import Size

DEAD = "the channel is dead, no picture excites it"
UNLUCKY = "the noise that it starts from does not excite the channel, take another seed"
TOO_FEW_STEPS = "raise interpreter.steps"

# The starting noise has a standard deviation of 0.003 in each colour, a picture that shows something 0.1 or more.
BLANK = 0.01
NOISES = 4  # of each kind: that any of them excites a channel is enough
COARSE = 8  # cells a side of coarse noise: as large as what deep layers look at
BATCH = 9  # pictures in one pass of the network
STEPS, STEP = 20, 0.1  # of the climb, in brightness: from any picture to any other, and back


def is_blank(picture: Tensor) -> bool:
    """Whether a picture (3, H, W) in [0, 1] shows nothing: grey all over, or not finite."""
    if not torch.isfinite(picture).all():
        return True
    return bool(picture.flatten(1).std(dim=1).max() < BLANK)


def why_blank(
    visualizer: Visualizer,
    networks: Sequence[nn.Module],
    channel: Channel,
    *,
    size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int = 0,
) -> str:
    """Why the channel's picture, by this visualizer with these settings, is blank; in words for the user.

    A channel is called dead where its activation at every place is exactly the same for every picture tried, and its
    gradient is exactly zero at each, in every network. Tried are what the visualizer starts from, strong noise, fine
    and coarse, the corners of the colour cube, and noise that climbed the channel where it is highest, with the
    network's ReLUs made leaky, so that a unit that is merely switched off shows the way to what switches it on.
    """
    (start,) = visualizer(networks, [channel], size=size, mean=mean, std=std, steps=0, seed=seed)  # (3, H, W)
    whys = {_why_blank_on(network, channel, start[None], mean, std, seed) for network in networks}
    return next(why for why in (TOO_FEW_STEPS, UNLUCKY, DEAD) if why in whys)


def _why_blank_on(
    model: nn.Module, channel: Channel, start: Tensor, mean: Sequence[float], std: Sequence[float], seed: int
) -> str:
    """The reason on one network; start (1, 3, H, W)."""
    find_slopes = partial(_find_slopes, model, channel, normalisation(mean, std, device_of(model)), seed)
    fine, coarse, corners = _strong_pictures(start.shape[-2:], seed)
    climbers = torch.cat([start, coarse])  # (1 + NOISES, 3, H, W)
    with LeakyReLUs():
        for _ in range(STEPS):
            _, slopes = find_slopes(climbers, lambda values: values.amax(1))
            climbers = (climbers + STEP * slopes.nan_to_num().sign()).clamp(0, 1)
    values, slopes = find_slopes(torch.cat([start, fine, coarse, corners, climbers]), lambda values: values)
    if bool((values == values[:1]).all()) and not slopes.any():
        return DEAD
    return TOO_FEW_STEPS if slopes[0].any() else UNLUCKY


def _find_slopes(
    model: nn.Module,
    channel: Channel,
    normalise: Callable[[Tensor], Tensor],
    seed: int,
    pictures: Tensor,
    reduce: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The channel's activations (n, places), and the slopes (n, 3, H, W) of what `reduce` makes of them."""
    activations, slopes = [], []
    device, layer = device_of(model), dict(model.named_modules()).get(channel.layer or "")
    with torch.enable_grad(), seed_generators(seed, device), observe_layers(model, [channel.layer]) as observe:
        for first in range(0, len(pictures), BATCH):
            leaf = pictures[first : first + BATCH].to(device).clone().requires_grad_()
            output = observe(normalise(leaf))[channel.layer]
            values = channel.read(output, layer, leaf.shape[-2:]).reshape(len(leaf), -1)
            slope = torch.zeros_like(leaf)
            if values.requires_grad:
                (found,) = torch.autograd.grad(reduce(values).sum(), leaf, allow_unused=True)
                slope = slope if found is None else found
            activations.append(values.detach())
            slopes.append(slope.detach())
    return torch.cat(activations).cpu(), torch.cat(slopes).cpu()


def _strong_pictures(size: Sequence[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fine noise, coarse noise and plain colours, (n, 3, H, W) in [0, 1], as strong as pictures can be."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(NOISES, 3, *size, generator=generator)
    coarse = torch.rand(NOISES, 3, COARSE, COARSE, generator=generator).round()
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # (8, 3): black, white, and between
    return fine, F.interpolate(coarse, list(size)), corners[:, :, None, None].expand(-1, -1, *size)
