"""Does the relevance lie where the evidence is? Measures of a map against a mask of pixels, many maps at once.

n: maps; H, W: a map's size. relevance: (n, H, W), one value a pixel; masks: bool (n, H, W), True on the evidence.
Every measure is 0 to 1, larger is better. Equal values are never ordered by where they lie in memory: a measure is what
is expected when ties are broken at random.
"""

import numpy as np
import torch
from scipy import ndimage, stats
from torch import Tensor

from spade_cli.errors import SpadeError


def roc_auc(relevance: Tensor, masks: Tensor) -> Tensor:
    """Area under the pixels' ROC curve, (n,) float64: how often a pixel of the mask outranks one outside, ties half.

    With the mask of a Trojan's symbol this is the Trojan AUC (SPADE, arXiv 2310.04519, section 4.1). It is the
    Mann-Whitney statistic of the ranks. Raises SpadeError for a mask that covers nothing or everything.
    """
    scores, inside = _flatten(relevance, masks)  # (n, P) each
    covered = inside.sum(1).double()  # (n,)
    outside = inside.shape[1] - covered
    wins = (ranks(scores) * inside).sum(1) - covered * (covered + 1) / 2
    return wins / (covered * outside)


def ranks(values: Tensor) -> Tensor:
    """Each value's rank in its row, from 1, float64 (n, P); equal values share the mean of their ranks."""
    return torch.from_numpy(stats.rankdata(values.double().cpu().numpy(), axis=1)).to(values.device)


def mass_inside(relevance: Tensor, masks: Tensor) -> Tensor:
    """Share of the positive relevance that lies on the mask, (n,) float64; 0 where no pixel is relevant.

    Relevance mass accuracy (Arras et al. 2022, equation 4), with negative relevance left out: it speaks against.
    """
    scores, inside = _flatten(relevance, masks)
    positive = scores.double().clamp(min=0)
    total = positive.sum(1)
    return torch.where(total > 0, (positive * inside).sum(1) / total.where(total > 0, torch.ones_like(total)), 0.0)


def rank_accuracy(relevance: Tensor, masks: Tensor) -> Tensor:
    """Of the K most relevant pixels, K the mask's size, the share on the mask, (n,) float64 (Arras et al. 2022)."""
    scores, inside = _flatten(relevance, masks)
    size = inside.sum(1, keepdim=True)  # (n, 1): K
    least = scores.sort(1, descending=True).values.gather(1, size - 1)  # the K-th largest value
    above, equal = scores > least, scores == least
    places = (size - above.sum(1, keepdim=True)).double()  # of the K, those that equal values compete for
    chance = places / equal.sum(1, keepdim=True)
    return ((above & inside).sum(1) + ((equal & inside) * chance).sum(1)) / size[:, 0]


def pointing_game(relevance: Tensor, masks: Tensor, tolerance: int = 15) -> Tensor:
    """Whether the most relevant pixel lies on the mask or at most `tolerance` pixels from it, (n,) float64.

    1 or 0; several maxima count with the share of them that hit. Zhang et al. 2018 (excitation backpropagation,
    section 4.1) allow 15 pixels.
    """
    scores, _ = _flatten(relevance, masks)
    near = grow_masks(masks, tolerance).flatten(1)
    best = scores == scores.amax(1, keepdim=True)
    return (best & near).sum(1).double() / best.sum(1)


def grow_masks(masks: Tensor, tolerance: int) -> Tensor:
    """The pixels at most `tolerance` pixels (Euclidean, centre to centre) from a mask: bool (n, H, W) -> the same."""
    far = np.stack([ndimage.distance_transform_edt(mask) for mask in ~masks.cpu().numpy()])  # (n, H, W): pixels
    return torch.from_numpy(far <= tolerance).to(masks.device)


def _flatten(relevance: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance and masks as rows of pixels, (n, P) each. Raises SpadeError for a mask of nothing or everything."""
    if relevance.shape != masks.shape or masks.dtype != torch.bool:
        found = f"{tuple(relevance.shape)} and {masks.dtype} {tuple(masks.shape)}"
        raise ValueError(f"relevance (n, H, W) and bool masks of the same shape are needed; found {found}")
    inside = masks.flatten(1).to(relevance.device)
    if (inside.sum(1) == 0).any() or inside.all(1).any():
        raise SpadeError("a mask covers nothing, or everything, of what the network sees: it cannot be told apart")
    return relevance.flatten(1), inside
