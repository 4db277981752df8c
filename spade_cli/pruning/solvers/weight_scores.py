"""The baselines: the weights of least score become zero, and what remains is not adjusted.

Axes: g groups, r rows, c columns. All take weight (g, r, c), a Hessian, the share of the layer's weights and the
kernels' width, and return (g, r, c) with exactly round(weights * share) zeros.
"""

import torch
from torch import Tensor

from spade_cli.pruning.solvers.damped_hessian import Hessian
from spade_cli.pruning.solvers.pruner import handles


@handles("low_rank")
def magnitude(weight: Tensor, hessian: Hessian, sparsity: float, block: int) -> Tensor:
    """Remove the weights of least absolute value, whatever the samples say."""
    return remove_least(weight, weight.abs(), sparsity)


@handles("low_rank")
def random(weight: Tensor, hessian: Hessian, sparsity: float, block: int, *, seed: int = 0) -> Tensor:
    """Remove random weights: a map that is as good on this trace owes nothing to the choice of weights.

    The same seed draws the same weights of a layer of this shape.
    """
    generator = torch.Generator().manual_seed(seed)
    return remove_least(weight, torch.rand(weight.shape, generator=generator).to(weight.device), sparsity)


@handles("low_rank")
def wanda(weight: Tensor, hessian: Hessian, sparsity: float, block: int) -> Tensor:
    """Remove the weights of least |w_j| ||X_j|| in each row (Sun et al. 2024, arXiv 2306.11695).

    ||X_j||^2 is, up to one factor, the Hessian's diagonal. Each row loses floor(c * share) weights, as in the paper
    (equation 1). The layer's exact count may ask for more, at most one in each row: the rows of least score lose one.
    """
    score = weight.abs() * hessian.diagonal(dim1=1, dim2=2).sqrt()[:, None, :]
    return remove_least(weight, score, sparsity, by_row=True)


@handles("low_rank", "gradient")
def gradient(weight: Tensor, hessian: Hessian, sparsity: float, block: int, gradient: Tensor | None = None) -> Tensor:
    """Remove the weights of least |w x gradient|, as circuits are found (Hamblin et al. 2022, arXiv 2206.01627).

    gradient (g, r, c): mean over the samples of |d score / d weight|, of the score that is asked about. Each layer is
    pruned by itself, as by the other pruners; the paper ranks kernels over the whole network.
    """
    if gradient is None:
        raise ValueError("pruner=gradient needs the gradient of a score, which only a trace of an image has")
    return remove_least(weight, weight.abs() * gradient.to(weight.device), sparsity)


def remove_least(weight: Tensor, score: Tensor, sparsity: float, *, by_row: bool = False) -> Tensor:
    """Zero exactly round(weights * sparsity) weights, those of least score: weight, score (g, r, c) -> (g, r, c).

    `by_row`: every row loses as many, to within one.
    """
    removed = round(weight.numel() * sparsity)
    order = score.flatten().argsort(stable=True)
    if by_row:
        # Ranked within the row first: all rows' cheapest, then all rows' second cheapest, and so on.
        rank = score.argsort(dim=2, stable=True).argsort(dim=2, stable=True)  # (g, r, c)
        order = order[rank.flatten()[order].argsort(stable=True)]
    result = weight.clone()
    result.view(-1)[order[:removed]] = 0
    return result
