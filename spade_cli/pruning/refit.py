"""What the solvers share: the best weights on a chosen support, and what a unit weighs.

Axes: b rows (of any group), c columns, s kept weights of a row.
"""

import torch
from torch import Tensor

SOLVE_BYTES = 256 * 2**20  # of one batch of systems; large enough to keep the cores busy, small beside a network


def refit(weight: Tensor, hessian: Tensor, kept: Tensor) -> Tensor:
    """argmin over W' supported on `kept` of ||W' X - W X||^2, row by row: H[S,S] w' = (W H)[S].

    weight (b, c), hessian (c, c) positive definite, kept (b, c) bool -> (b, c), exactly zero off the support; a row
    that keeps everything is returned as it was. Source: the closed form behind OBC's updates (arXiv 2208.11580, section
    4).
    """
    result = torch.where(kept, weight, torch.zeros_like(weight))
    target = weight @ hessian  # (b, c)
    counts = kept.sum(1)
    touched = ((counts < weight.shape[1]) & (counts > 0)).nonzero().squeeze(1)
    touched = touched[counts[touched].argsort(descending=True)]  # rows of like support together: little padding
    while len(touched):
        width = int(counts[touched[0]])
        batch = max(1, SOLVE_BYTES // (width * width * hessian.element_size()))
        rows, touched = touched[:batch], touched[batch:]
        columns = (
            (~kept[rows]).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        )  # (b, s): the kept ones first, in order
        real = torch.arange(width, device=kept.device) < counts[rows, None]  # (b, s); the rest is padding
        system = hessian[columns[:, :, None], columns[:, None, :]]  # (b, s, s)
        system = system * (real[:, :, None] & real[:, None, :]) + torch.diag_embed((~real).to(system))
        right = target[rows].gather(1, columns) * real  # (b, s)
        solution = torch.cholesky_solve(right[:, :, None], torch.linalg.cholesky(system))[:, :, 0]
        fitted = torch.zeros_like(result[rows]).scatter_add_(1, columns, solution * real)
        result[rows] = fitted
    return result


def inverse_form(values: Tensor, blocks: Tensor) -> Tensor:
    """v^T B^-1 v of every unit: values (b, u, k), blocks (b, u, k, k) positive definite -> (b, u)."""
    if values.shape[-1] == 1:
        return values[..., 0] ** 2 / blocks[..., 0, 0]
    return (values * torch.linalg.solve(blocks, values[..., None])[..., 0]).sum(-1)
