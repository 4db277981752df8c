"""What the baselines share: the weights of least score become zero.

Axes: g groups, r rows, c columns.
"""

from torch import Tensor


def without_least(weight: Tensor, score: Tensor, sparsity: float, *, by_row: bool = False) -> Tensor:
    """Zero exactly round(weights * sparsity) weights, those of least score: weight, score (g, r, c) -> (g, r, c).

    `by_row`: every row loses as many, to within one.
    """
    removed = round(weight.numel() * sparsity)
    if by_row:
        # Ranked within the row first: all rows' cheapest, then all rows' second cheapest, and so on.
        rank = score.argsort(dim=2, stable=True).argsort(dim=2, stable=True)  # (g, r, c)
        order = score.flatten().argsort(stable=True)
        order = order[rank.flatten()[order].argsort(stable=True)]
    else:
        order = score.flatten().argsort(stable=True)
    result = weight.clone()
    result.view(-1)[order[:removed]] = 0
    return result
