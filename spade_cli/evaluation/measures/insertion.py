"""Insertion and deletion: what the dense network says as the most relevant pixels come, or go (Petsiuk et al. 2018).

n: maps of one image; P: pixels; k: points of a curve. The removed pixels get the mean colour, zero in the network's
input, or those of the blurred picture. Point x of k is at x % for k = 100: deletion starts from the full picture,
insertion from none of it.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from spade_cli.networks.scores import Output

KINDS = ("insertion", "deletion")
POINTS = 100  # 0 to 99 %, as in SPADE's paper (arXiv 2310.04519)


@torch.no_grad()
def curve(
    network: nn.Module,
    x: Tensor,
    target: int,
    relevance: Tensor,
    kind: str,
    *,
    points: int = POINTS,
    batch_size: int = 32,
    seed: int = 0,
    output: Output = Output.SOFTMAX,
    fill: Tensor | None = None,
) -> Tensor:
    """The target's confidence at each point, of its confidence on the full picture, at most 1: (n, points) float64.

    x (1, 3, H, W) normalised, relevance (n, H, W); deletion sets the most relevant pixels to those of `fill`, shaped as
    x (None: the mean colour, zero), insertion keeps only them. Equal values are ordered at random, by the seed: in the
    order of memory they would uncover the picture from the top. The network is the dense one, whatever network the map
    explains.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; there are {' and '.join(KINDS)}")
    relevance = relevance.to(x.device)
    fill = torch.zeros_like(x) if fill is None else fill
    full = _confidence(network, x, target, output)  # (1,)
    place = order(relevance.flatten(1), seed).view(relevance.shape)  # (n, H, W): 0 is the most relevant
    counts = (torch.arange(points, device=x.device) * relevance[0].numel() / points).round().long()  # (k,)
    curves = []
    for ranked in place:  # (H, W)
        confidences = []
        for batch in counts.split(batch_size):
            top = ranked[None] < batch[:, None, None]  # (b, H, W)
            seen = top if kind == "insertion" else ~top
            confidences.append(_confidence(network, torch.where(seen[:, None], x, fill), target, output))
        curves.append((torch.cat(confidences) / full).clamp(0, 1))
    return torch.stack(curves)


def blur(x: Tensor) -> Tensor:
    """The picture (1, 3, H, W) without what is smaller than its blur, whose deviation is a twentieth of a side."""
    deviation = min(x.shape[-2:]) / 20
    blurred: Tensor = gaussian_blur(x, 2 * math.ceil(3 * deviation) + 1, deviation)
    return blurred


FILLS: dict[str, Callable[[Tensor], Tensor]] = {"mean": torch.zeros_like, "blurred": blur}


def order(values: Tensor, seed: int) -> Tensor:
    """Each value's place in its row (n, P), 0 the largest; equal values at random."""
    shuffle = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(seed)).to(values.device)
    sorting = values[:, shuffle].argsort(dim=1, descending=True, stable=True)  # places in the shuffled row
    place = torch.empty_like(sorting)
    at = torch.arange(values.shape[1], device=values.device).expand_as(sorting)
    place.scatter_(1, shuffle[sorting], at)
    return place


def area(curves: Tensor) -> Tensor:
    """Area under curves (n, k) by trapezoids, the points spread evenly over 0 to 1: (n,), 0 to 1."""
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


def symmetric_relevance_gain(insertion: Tensor, deletion: Tensor) -> Tensor:
    """Area under deletion, least relevant pixels first minus most relevant first, (n,): -1 to 1.

    Curves (n, k) of both kinds (Blücher et al. 2024, arXiv 2401.06654). Without the least relevant x % of the pixels
    the picture is what insertion shows at 100 - x %, so no further pass is needed.
    """
    full = torch.ones_like(insertion[:, :1])
    least_first = torch.cat([full, insertion[:, 1:].flip(1)], 1)  # (n, k)
    return area(least_first) - area(deletion)


def _confidence(network: nn.Module, x: Tensor, target: int, output: Output) -> Tensor:
    return output.probabilities(network(x))[:, target]  # (b,)
