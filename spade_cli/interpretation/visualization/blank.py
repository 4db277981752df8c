"""Whether a picture stayed blank, and why: a dead channel, an unlucky start, or too few steps."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spade_cli.devices import device_of
from spade_cli.interpretation.channels import Channel, channel_axis, observe_layers
from spade_cli.interpretation.visualization.fourier import visualize
from spade_cli.interpretation.visualization.visualizer import normalisation
from spade_cli.networks.modes_and_seeds import seed_generators

DEAD = "the channel is dead, no picture excites it"
UNLUCKY = "the noise that it starts from does not excite the channel, take another seed"
TOO_FEW_STEPS = "raise interpreter.steps"

# The starting noise has a standard deviation of 0.003 in each colour, a picture that shows something 0.1 or more.
BLANK = 0.01
NOISES = 4  # of each kind: that any of them excites a channel is enough
COARSE = 8  # squares a side of coarse noise: as large as what deep layers look at
BATCH = 9  # pictures in one pass of the network
STEPS, STEP = 20, 0.1  # of the climb, in brightness: from any picture to any other, and back
LEAK = 0.1  # slope of a leaky ReLU below zero: large enough to reach through the layers of a deep network


def is_blank(picture: Tensor) -> bool:
    """Whether a picture (3, H, W) in [0, 1] shows nothing: grey all over, or not finite."""
    if not torch.isfinite(picture).all():
        return True
    return bool(picture.flatten(1).std(dim=1).max() < BLANK)


def why_blank(
    model: nn.Module, channel: Channel, *, size: int, mean: Sequence[float], std: Sequence[float], seed: int = 0
) -> str:
    """Why the channel's picture, by `visualize` with these settings, is blank; in words for the user.

    A channel is called dead where its activation at every place is exactly the same for every picture tried, and its
    gradient is exactly zero at each. Tried are the noise that `visualize` starts from, strong noise, fine and coarse,
    the corners of the colour cube, and noise that climbed the channel where it is highest, with the network's ReLUs
    made leaky, so that a unit that is merely switched off shows the way to what switches it on.
    """
    start = visualize(model, [channel], size=size, mean=mean, std=std, steps=0, seed=seed)  # (1, 3, size, size)
    find_slopes = partial(_find_slopes, model, channel, normalisation(mean, std, device_of(model)), seed)
    fine, coarse, corners = _strong_pictures(size, seed)
    climbers = torch.cat([start, coarse])  # (1 + NOISES, 3, size, size)
    with _LeakyReLUs():
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
            values = output.select(channel_axis(output.shape, layer), channel.channel).reshape(len(leaf), -1)
            slope = torch.zeros_like(leaf)
            if values.requires_grad:
                (found,) = torch.autograd.grad(reduce(values).sum(), leaf, allow_unused=True)
                slope = slope if found is None else found
            activations.append(values.detach())
            slopes.append(slope.detach())
    return torch.cat(activations).cpu(), torch.cat(slopes).cpu()


def _strong_pictures(size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fine noise, coarse noise and plain colours, (n, 3, size, size) in [0, 1], as strong as pictures can be."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(NOISES, 3, size, size, generator=generator)
    coarse = torch.rand(NOISES, 3, COARSE, COARSE, generator=generator).round()
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # (8, 3): black, white, and between
    return fine, F.interpolate(coarse, (size, size)), corners[:, :, None, None].expand(-1, -1, size, size)


class _LeakyReLUs(TorchFunctionMode):
    """Inside the `with`, ReLU and ReLU6 let some of what is below zero through, and all that is above six."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in ("relu", "relu_", "relu6"):
            return func(*args, **kwargs)
        input = args[0] if args else kwargs["input"]
        in_place = name == "relu_" or kwargs.get("inplace", False) or args[1:2] == (True,)
        return F.leaky_relu(input, LEAK, inplace=in_place)
