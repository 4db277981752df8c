"""SparseGPT: one sweep over the columns, each column's error carried by those behind it (arXiv 2301.00774).

Axes: g groups, r rows, c columns.
"""

import torch
from torch import Tensor

from spade_cli.pruning.solvers.elimination import MOST_INFLATION
from spade_cli.pruning.solvers.pruner import handles


@handles("stacked")
def sparsegpt(weight: Tensor, hessian: Tensor, sparsity: float, block: int, *, lazy_width: int = 128) -> Tensor:
    """Prune column by column; the mask is chosen anew, over all rows, for every `block` columns (a kernel's width).

    weight (g, r, c), hessian (g, c, c) positive definite, sparsity 0 to 1. Returns (g, r, c) with exactly round(weights
    * sparsity) zeros: up to the end of each run of columns the share is exact, so that rounding never adds up. Columns
    beyond `lazy_width` are updated once per `lazy_width` columns, in one matrix product; this changes the speed and
    nothing else (algorithm 1 of the paper). (n, g, r, c) with (n, g, c, c) is one layer of n images, solved at once,
    each with the counts of its own.
    """
    images = len(weight) if weight.dim() == 4 else 1
    shape = weight.shape
    weight, hessian = weight.reshape(-1, *shape[-2:]), hessian.reshape(-1, *hessian.shape[-2:])
    rows, columns = weight.shape[1:]
    in_a_column = len(weight) // images * rows  # weights, of one image
    if round(in_a_column * columns * sparsity) == 0:
        return weight.clone().view(shape)
    w = weight.to(hessian.dtype, copy=True)
    upper = _stable_inverse_factor(hessian).to(hessian.dtype)
    wide = max(1, lazy_width // block) * block
    for start in range(0, columns, wide):
        end = min(start + wide, columns)
        errors = torch.zeros_like(w[:, :, start:end])
        for left in range(start, end, block):
            right = left + block
            count = round(in_a_column * right * sparsity) - round(in_a_column * left * sparsity)
            lost = _find_cheapest(
                w[:, :, left:right], upper[:, left:right, left:right], count, images
            )  # (n g, r, block)
            for j in range(left, right):
                scale = upper[:, j, j, None]  # (g, 1)
                errors[:, :, j - start] = w[:, :, j] * lost[:, :, j - left] / scale
                update = errors[:, :, j - start, None] * upper[:, None, j, j:end]  # (g, r, end - j)
                w[:, :, j:end] -= update
                w[:, :, j].masked_fill_(lost[:, :, j - left], 0)  # exactly
        w[:, :, end:] -= errors @ upper[:, start:end, end:]
    return w.to(weight.dtype).view(shape)


def _stable_inverse_factor(hessian: Tensor) -> Tensor:
    """`inverse_factor` in the Hessian's own precision, or float64 where a variance inflation loses float32's digits."""
    try:
        upper = inverse_factor(hessian)
    except torch.linalg.LinAlgError:  # positive definite, but not in float32
        return inverse_factor(hessian.double())
    inflation = hessian.diagonal(dim1=1, dim2=2) * upper.square().sum(1)  # H_jj Hinv_jj: column j of U, squared
    return upper if bool((inflation < MOST_INFLATION).all()) else inverse_factor(hessian.double())


def inverse_factor(hessian: Tensor) -> Tensor:
    """Upper U with U^T U = H^-1, (g, c, c): row j is, scaled, that of the inverse with the columns before j eliminated.

    With H = M M^T, M upper, U is M^-1; M comes from the Cholesky factor of H with its axes reversed. One factorisation
    and one triangular inverse, where inverting H and factorising that would square the error and cost three times more.
    """
    upper = torch.linalg.cholesky(hessian.flip(1, 2)).flip(1, 2)  # M
    identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype, device=hessian.device).expand_as(hessian)
    inverse: Tensor = torch.linalg.solve_triangular(upper, identity, upper=True)
    return inverse


def _find_cheapest(w: Tensor, upper: Tensor, count: int, images: int) -> Tensor:
    """Which `count` weights of these columns cost each image least, w^2 / U_jj^2, in any row: (n g, r, block) bool."""
    price = (w / upper.diagonal(dim1=1, dim2=2)[:, None, :]) ** 2
    by_image = price.view(images, -1)
    lost = torch.zeros_like(by_image, dtype=torch.bool)
    return lost.scatter_(1, by_image.argsort(dim=1, stable=True)[:, :count], True).view_as(price)
