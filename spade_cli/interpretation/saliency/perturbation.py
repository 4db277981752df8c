"""Saliency by covering parts of the image: occlusion, RISE, and LIME on quickshift segments."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from captum import attr
from skimage.segmentation import quickshift
from torch import Tensor
from torch.nn import functional as F

from spade_cli.errors import UserError
from spade_cli.interpretation.explanation import (
    Explanation,
    attribution_pass,
    check_counts,
    make_explanation,
    prepare_image,
)
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.sizes import Size, find_sides, write_size

# quickshift, kernel and regression as in the lime package's lime_image (Ribeiro et al. 2016), which SPADE's paper used
QUICKSHIFT = {"ratio": 0.2, "kernel_size": 4, "max_dist": 200}
# Of the picture's shorter side, and of the square. A square covers a thing or much of it: 15 pixels of 224 cover a dot,
# without which a network sees what it saw before. docs/results.md has the figures.
WINDOW_SHARE, STRIDE_SHARE = 1 / 7, 1 / 3
SEGMENTED = 32  # images whose segments are kept: the dense network and the traces explain the same copies, 8 by default
KERNEL_WIDTH = 0.25  # of the cosine distance to the image with all segments
RIDGE = 1.0  # penalty of the weighted linear model


def occlusion(
    network: Explainable,
    image: Tensor,
    target: int,
    *,
    window: int | None = None,
    stride: int | None = None,
    batch_size: int = 16,
) -> Explanation:
    """Drop in the output when a square is set to zero, the mean colour (Zeiler and Fergus 2014, section 4.2).

    window, stride: pixels; None: a seventh of the shorter side, and a third of the window. Where squares overlap a
    pixel gets the mean of their drops. batch_size: squares at a time. Errors: UserError where the square is larger than
    the image or the stride larger than the square.
    """
    height, width = image.shape[-2:]
    window = choose_window((height, width)) if window is None else window
    stride = choose_stride(window) if stride is None else stride
    if not (1 <= stride <= window <= min(height, width)):
        raise UserError(
            f"occlusion with window {window} and stride {stride} asked for on {height} x {width} pixels; "
            "take 1 <= stride <= window <= the image's shorter side"
        )
    check_counts("occlusion", batch_size=batch_size)
    image = prepare_image(network, image, target)
    with attribution_pass(network.model), torch.no_grad():
        drop = attr.Occlusion(network.model).attribute(
            image,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            baselines=0,
            target=target,
            perturbations_per_eval=batch_size,
        )  # (1, 3, H, W)
    return make_explanation("occlusion", drop)


def choose_window(sides: tuple[int, int]) -> int:
    """The side of occlusion's square, in pixels, where none is given.

    >>> choose_window((224, 300)), choose_stride(32)
    (32, 10)
    """
    return max(1, int(min(sides) * WINDOW_SHARE))


def choose_stride(window: int) -> int:
    """Pixels from a square to the next, where none are given."""
    return max(1, int(window * STRIDE_SHARE))


def check_window(methods: Mapping[str, object], size: Size) -> None:
    """UserError where `occlusion`, a partial or smoothed, cannot cover images of `size` with its squares."""
    settings, side = getattr(methods.get("occlusion"), "keywords", {}), min(find_sides(size))
    window, stride = settings.get("window"), settings.get("stride")
    if window is not None and window > side:
        raise UserError(
            f"interpreter.occlusion.window={window} is larger than the picture, {write_size(size)} pixels; give at "
            f"most {side}, such as {choose_window((side, side))}, and interpreter.occlusion.stride no larger"
        )
    if window is None and stride is not None and stride > (chosen := choose_window((side, side))):
        raise UserError(
            f"interpreter.occlusion.stride={stride} is larger than the square, which has {chosen} pixels a side; give "
            "interpreter.occlusion.window as well, or a stride no larger"
        )


def lime(
    network: Explainable, image: Tensor, target: int, *, samples: int = 1000, batch_size: int = 16, seed: int = 0
) -> Explanation:
    """Positive weights of a linear model of which segments are visible (Ribeiro et al. 2016, algorithm 1).

    Segments are quickshift's. They follow the image's edges, so noisy copies have other segments, and the mean over
    copies is finer than one division of the image. A covered segment has the mean colour, zero after normalising: the
    baseline of every other method here. The linear model is of the network's output, as in every method here, not of
    its softmax. Negative weights become zero. samples: pictures shown, each segment visible with probability 1/2.
    """
    weighed = weigh_segments(network, image, target, samples=samples, batch_size=batch_size, seed=seed)
    return make_explanation("lime", weighed.map.clamp(min=0)[None])


def weigh_segments(
    network: Explainable, image: Tensor, target: int, *, samples: int = 1000, batch_size: int = 16, seed: int = 0
) -> Explanation:
    """The map of `lime` before negative weights become zero: what speaks against the class as well.

    Arguments and errors are those of `lime`.
    """
    if samples < 2:
        raise UserError(f"lime.samples={samples} asked for; a linear model needs 2 or more")
    check_counts("lime", batch_size=batch_size)
    image = prepare_image(network, image, target)
    segments = find_segments(image[0], seed).to(image.device)  # (H, W)
    count = int(segments.max()) + 1
    visible, outputs = [], []
    with attribution_pass(network.model), seed_generators(seed, image.device), torch.no_grad():
        for start in range(0, samples, batch_size):
            rows = [_draw_segments(n, count) for n in range(start, min(start + batch_size, samples))]
            visible.append(torch.stack(rows))  # (n, segments)
            covered = image * visible[-1].to(image)[:, None, segments]  # (n, 3, H, W)
            outputs.append(network.model(covered)[:, target])
    weights = fit_weights(torch.cat(visible), torch.cat(outputs))
    return make_explanation("lime", weights[segments.cpu()][None, None])


def find_segments(image: Tensor, seed: int) -> Tensor:
    """Quickshift segments (H, W), int64 from 0, of a normalised image (3, H, W).

    Quickshift needs colours in [0, 1]. The normalised image, stretched from its minimum to its maximum, has such
    colours and the image's own edges, and no caller has to give mean and standard deviation.
    """
    colours = image.detach().cpu().float().permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    segments = _run_quickshift(colours.tobytes(), colours.shape, seed)
    return torch.tensor(segments, dtype=torch.long)  # a copy: the array is kept


@lru_cache(SEGMENTED)
def _run_quickshift(values: bytes, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The segments (H, W) of an image of `shape` (H, W, 3), float32 in `values`; it takes a second."""
    colours = np.frombuffer(values, np.float32).reshape(shape).astype(np.float64)
    spread = colours.max() - colours.min()
    colours = (colours - colours.min()) / (spread if spread > 0 else 1.0)
    segments: np.ndarray = quickshift(colours, rng=seed, **QUICKSHIFT)
    return segments


def _draw_segments(sample: int, count: int) -> Tensor:
    """Which segments are visible, (segments,): all of them in the first sample, then each with probability 1/2."""
    return torch.ones(count) if sample == 0 else torch.bernoulli(torch.full((count,), 0.5))  # the same on every device


def fit_weights(visible: Tensor, outputs: Tensor) -> Tensor:
    """Ridge regression of the outputs (n,) on which segments are visible (n, segments): the weights (segments,).

    A sample counts by exp(-distance^2 / width^2)^(1/2), with the cosine distance to the image with all segments.
    """
    from sklearn.linear_model import Ridge  # takes a second

    visible, outputs = (values.cpu().double() for values in (visible, outputs))  # on the CPU: MPS has no float64
    cosine = (visible.sum(1) / (visible.norm(dim=1) * visible.shape[1] ** 0.5)).nan_to_num(0)
    similarity = torch.exp(-((1 - cosine) ** 2) / KERNEL_WIDTH**2).sqrt()  # (n,)
    model = Ridge(alpha=RIDGE).fit(visible.numpy(), outputs.numpy(), sample_weight=similarity.numpy())
    return torch.from_numpy(model.coef_).float()


def rise(
    network: Explainable,
    image: Tensor,
    target: int,
    *,
    samples: int = 1000,
    grid: int = 7,
    visible: float = 0.5,
    batch_size: int = 16,
    seed: int = 0,
) -> Explanation:
    """By how much the output is higher than usual where a pixel is visible (RISE; Petsiuk et al. 2018, section 3).

    The map is the mean of (output - mean output) x mask, over the share that is visible. The paper has probabilities
    without their mean; this is the network's output, as in every method here, and an output has no level that means
    nothing. samples: masks; grid: their cells a side; visible: the probability of a cell to be visible; batch_size:
    masks at a time, which changes no map.
    """
    if samples < 2:
        raise UserError(f"rise.samples={samples} asked for; a mean to compare with needs 2 or more")
    if not 0 < visible < 1:
        raise UserError(f"rise.visible={visible} asked for; give a probability between 0 and 1")
    check_counts("rise", grid=grid, batch_size=batch_size)
    image = prepare_image(network, image, target)
    weighed, shown = torch.zeros_like(image[:, :1]), torch.zeros_like(image[:, :1])  # (1, 1, H, W) each
    outputs = []
    with attribution_pass(network.model), torch.no_grad():
        dice = torch.Generator().manual_seed(seed)  # the CPU's: the same masks on every device
        for start in range(0, samples, batch_size):
            count = min(batch_size, samples - start)
            masks = torch.cat([draw_mask(image.shape[-2:], grid, visible, dice) for _ in range(count)]).to(image)
            outputs.append(network.model(image * masks)[:, target])  # (n,)
            weighed += (outputs[-1][:, None, None, None] * masks).sum(0, keepdim=True)
            shown += masks.sum(0, keepdim=True)
        mean = torch.cat(outputs).mean()
    return make_explanation("rise", (weighed - mean * shown) / (visible * samples))


def draw_mask(size: Sequence[int], grid: int, visible: float, dice: torch.Generator) -> Tensor:
    """A soft mask (1, 1, H, W) from 0 to 1: cells that are visible or not, enlarged, and moved within a cell."""
    cells = (torch.rand(1, 1, grid, grid, generator=dice) < visible).float()
    cell = [math.ceil(side / grid) for side in size]
    large = F.interpolate(cells, size=[(grid + 1) * side for side in cell], mode="bilinear")
    top, left = (int(torch.randint(side, (), generator=dice)) for side in cell)
    return large[..., top : top + size[0], left : left + size[1]]
