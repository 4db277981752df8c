"""Why a feature visualization stayed blank: a dead channel, an unlucky start, or too few steps."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spade_cli.devices import device_of
from spade_cli.interpretation.channels import channel_axis
from spade_cli.interpretation.visualization import Channel, observed, visualize
from spade_cli.networks.borrow import seed_generators

DEAD = "the channel is dead, no picture excites it"
UNLUCKY = "the noise that it starts from does not excite the channel, take another seed"
TOO_FEW_STEPS = "raise interpreter.steps"

NOISES = 4  # of each kind: that any of them excites a channel is enough
COARSE = 8  # squares a side of coarse noise: as large as what deep layers look at
BATCH = 9  # pictures in one pass of the network
STEPS, STEP = 20, 0.1  # of the climb, in brightness: from any picture to any other, and back
LEAK = 0.1  # slope of a leaky ReLU below zero: large enough to reach through the layers of a deep network


def why_blank(
    model: nn.Module, channel: Channel, *, size: int, mean: Sequence[float], std: Sequence[float], seed: int = 0
) -> str:
    """What to tell of a channel whose picture, of `visualize` with these settings, is blank.

    A channel is called dead where its activation at every place is exactly the same for every picture tried, and its
    gradient is exactly zero at each. Tried are the noise that `visualize` starts from, strong noise, fine and coarse,
    the corners of the colour cube, and noise that climbed the channel where it is highest, with the network's ReLUs
    made leaky, so that a unit that is merely switched off shows the way to what switches it on.
    """
    settings: dict[str, Any] = {"size": size, "mean": mean, "std": std}
    start = visualize(model, [channel], **settings, steps=0, seed=seed)  # (1, 3, size, size)
    seen = partial(_seen, model, channel, mean=mean, std=std, seed=seed)
    fine, coarse, corners = _strong(size, seed)
    climbed = torch.cat([start, coarse])  # (1 + NOISES, 3, size, size)
    with _Leaky():
        for _ in range(STEPS):
            _, slopes = seen(climbed, of=lambda values: values.amax(1))
            climbed = (climbed + STEP * slopes.nan_to_num().sign()).clamp(0, 1)
    values, slopes = seen(torch.cat([start, fine, coarse, corners, climbed]), of=lambda values: values)
    if bool((values == values[:1]).all()) and not slopes.any():
        return DEAD
    return TOO_FEW_STEPS if slopes[0].any() else UNLUCKY


def _strong(size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Fine noise, coarse noise and plain colours, (n, 3, size, size) in [0, 1], as strong as pictures can be."""
    generator = torch.Generator().manual_seed(seed)
    fine = torch.rand(NOISES, 3, size, size, generator=generator)
    coarse = torch.rand(NOISES, 3, COARSE, COARSE, generator=generator).round()
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # (8, 3): black, white, and between
    return fine, F.interpolate(coarse, (size, size)), corners[:, :, None, None].expand(-1, -1, size, size)


def _seen(
    model: nn.Module,
    channel: Channel,
    pictures: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    of: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """A channel's activations (n, places) for pictures (n, 3, H, W) in [0, 1], and their slopes (n, 3, H, W).

    of: what is added up of the activations before the slopes are taken.
    """
    device = device_of(model)
    to_mean, to_std = (torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in (mean, std))
    layer = dict(model.named_modules()).get(channel.layer or "")
    found, slopes = [], []
    with torch.enable_grad(), seed_generators(seed, device), observed(model, [channel.layer]) as observe:
        for some in pictures.to(device).split(BATCH):
            leaf = some.clone().requires_grad_()
            output = observe((leaf - to_mean) / to_std)[channel.layer]
            values = output.select(channel_axis(output.shape, layer), channel.channel).reshape(len(some), -1)
            slope = torch.autograd.grad(of(values).sum(), leaf, allow_unused=True)[0] if values.requires_grad else None
            found.append(values.detach())
            slopes.append(torch.zeros_like(some) if slope is None else slope)
    return torch.cat(found).cpu(), torch.cat(slopes).cpu()


class _Leaky(TorchFunctionMode):
    """Inside the `with`, ReLU and ReLU6 let some of what is below zero through, and all that is above six."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in ("relu", "relu_", "relu6"):
            return func(*args, **kwargs)
        input = args[0] if args else kwargs["input"]
        written = name == "relu_" or kwargs.get("inplace", False) or args[1:2] == (True,)
        return F.leaky_relu(input, LEAK, inplace=written)
