"""What the solvers share: one step of an elimination, what a unit weighs, and the best weights on a support.

Axes: b rows (of any group), c columns, s kept weights of a row, u units of k columns, t units eliminated so far.
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
        kept_first = (~kept[rows]).to(torch.uint8).argsort(dim=1, stable=True)  # (b, c)
        columns = kept_first[:, :width]  # (b, s)
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


def pivot_on(first: Tensor, past: Tensor, inside: Tensor, block: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Eliminate one unit P of every row from a symmetric matrix A: V = L^-1 A_P: and L^-1 v_P, where L L^T = A_PP.

    A is never formed: first (b, k, c) holds its rows before any elimination, past (b, t*k, c) the earlier pivot rows V,
    and A_P: is the first less past_P^T past. inside (b, k): P's columns; block (b, k, k): A_PP; values (b, c): v.
    Returns (b, k, c) and (b, k, 1).
    """
    there = past.gather(2, inside[:, None, :].expand(-1, past.shape[1], -1))  # (b, t*k, k)
    rows = torch.baddbmm(first, there.transpose(1, 2), past, alpha=-1)  # (b, k, c): A_P:
    factor = torch.linalg.cholesky(block)  # (b, k, k)
    pivot = torch.linalg.solve_triangular(factor, rows, upper=False)
    share = torch.linalg.solve_triangular(factor, values.gather(1, inside)[:, :, None], upper=False)
    return pivot, share
