"""Gradient ascent on what pictures are made of: at each step the networks see the same random crops of each picture."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from spade_cli.interpretation.channels import Channel
from spade_cli.interpretation.visualization.leaky_relus import LeakyReLUs
from spade_cli.interpretation.visualization.visualizer import check_finite
from spade_cli.sizes import Size, find_sides

SIDES = (0.45, 1.0)  # of a crop, as shares of the picture: in smaller ones, what a channel looks for comes out small
CENTRE_SPREAD = 0.15  # standard deviation of a crop's centre, as a share of the picture: what matters is in the middle
NOISE = 0.1  # standard deviation in each pixel of 224 a side, in brightness: hides patterns that only a network sees
USUAL = 224  # pixels a side of a square; a larger picture needs more noise to hide the same share of it
BRIGHTNESS = 0.025  # a crop is at most so much brighter or darker
LEAST = 1e-12  # slope that Adam follows: those of a mean over many positions are near its usual 1e-8

Crop = tuple[int, int, int, int]  # top, left, height and width in pixels
See = Callable[[Tensor], Tensor]  # pictures (N, 3, H, W) -> what a step shows of them, (N x crops, 3, H, W)


def climb_pictures(
    parameters: Tensor,
    find_slopes: Callable[[See, bool], tuple[Tensor, Tensor]],
    targets: Sequence[Channel],
    *,
    size: Size,
    steps: int,
    learning_rate: float,
    crops: int,
    generator: torch.Generator,
    on_step: Callable[[int, int], None] | None,
) -> Tensor:
    """Climb by Adam; returns which pictures ever had a slope, bool (N,).

    parameters: of the pictures, (N, ...), changed in place. find_slopes: a step's crops, and whether the
    dense network corrects them, as it does in the second half of the steps -> the pictures' responses (N,) and the
    slopes (N, ...) to climb. Where a picture's slopes are exactly zero, its step is the one that leaky ReLUs
    make, until it excites its target. Errors: SpadeError where a value stops being finite.
    """
    optimizer = torch.optim.Adam([parameters], lr=learning_rate, eps=LEAST)
    awake = torch.zeros(len(parameters), dtype=torch.bool)
    for step in range(1, steps + 1):
        see = draw_views(size, crops, generator)
        corrected = 2 * step > steps
        responses, slopes = find_slopes(see, corrected)
        check_finite(targets, responses, slopes, step, steps)
        silent = ~slopes.flatten(1).any(1)
        awake |= ~silent.cpu()
        if silent.any():
            with LeakyReLUs():
                _, ways = find_slopes(see, corrected)
            slopes = slopes + ways.nan_to_num() * silent.view(-1, *[1] * (slopes.dim() - 1))
        parameters.grad = -slopes
        optimizer.step()
        if on_step is not None:
            on_step(step, steps)
    return awake


def draw_crops(size: Size, crops: int, generator: torch.Generator) -> list[Crop]:
    """Parts of random size about random centres, in the picture's proportions, moved inside where they reach beyond."""
    low, high = SIDES
    whole = torch.tensor(find_sides(size))  # height, width
    sides = whole * (low + (high - low) * torch.rand(crops, generator=generator))[:, None]  # (crops, 2)
    centres = whole * (0.5 + CENTRE_SPREAD * torch.randn(crops, 2, generator=generator))
    found = []
    for (height, width), centre in zip(sides.round().int().clamp(min=1).tolist(), centres.tolist(), strict=True):
        top, left = (
            min(max(round(place - side / 2), 0), limit - side)
            for place, side, limit in zip(centre, (height, width), whole.tolist(), strict=True)
        )
        found.append((top, left, height, width))
    return found


def draw_views(size: Size, crops: int, generator: torch.Generator) -> See:
    """One step's crops, enlarged to `size`, each with its noise; the same for every picture and every network."""
    parts, sides = draw_crops(size, crops, generator), find_sides(size)
    noise = NOISE * math.sqrt(math.prod(sides)) / USUAL * torch.randn(crops, 3, *sides, generator=generator)
    noise += BRIGHTNESS * (2 * torch.rand(crops, 1, 1, 1, generator=generator) - 1)

    def see(pictures: Tensor) -> Tensor:
        views = [
            F.interpolate(pictures[..., top : top + height, left : left + width], size=sides, mode="bilinear")
            for top, left, height, width in parts
        ]
        return (torch.stack(views, 1) + noise.to(pictures.device)).flatten(0, 1)

    return see
