"""Optimal Brain Surgeon, exactly: remove what costs least, adjust what stays, repeat (OBC, arXiv 2208.11580).

Axes: g groups, r rows of a group, b rows of all groups, c columns, u units of a row (a kernel, or one weight).
"""

import math

import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.pruning.solvers.elimination import WORK_BYTES, refit, removal_order, spend, threshold


def obs(weight: Tensor, hessian: Tensor, sparsity: float, block: int, *, granularity: str = "kernel") -> Tensor:
    """Remove, over all rows of the layer, the unit whose loss raises the error least, adjust the rest, and repeat.

    weight (g, r, c), hessian (g, c, c) positive definite, sparsity 0 to 1 of the layer's units; `granularity="kernel"`
    removes runs of `block` columns, "weight" single weights. Returns (g, r, c) with exactly round(units * sparsity)
    units zero. Rows do not touch one another, so each row's own order is found first; the layer's budget then takes the
    cheapest next removal of any row, and what stays is refitted.
    """
    if granularity not in ("kernel", "weight"):
        raise UserError(f"pruner.granularity={granularity} is unknown: choose kernel or weight")
    unit = block if granularity == "kernel" else 1
    groups, rows, columns = weight.shape
    removed = round(groups * rows * (columns // unit) * sparsity)
    if removed == 0:
        return weight.clone()
    # float64: thousands of successive eliminations in float32 change the order of near ties.
    exact, curvature = weight.double(), hessian.double()
    order, cost, limit = [], [], math.inf
    for group in range(groups):
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(curvature[group]))  # (c, c)
        batch = max(1, WORK_BYTES // (2 * columns * columns * inverse.element_size()))  # twice: room to compact
        for part in exact[group].split(batch):
            found = removal_order(part, inverse, unit, removed, limit)
            order.append(found[0])
            cost.append(found[1])
            limit = min(limit, threshold(torch.cat(cost), removed))
    kept = spend(torch.cat(order), torch.cat(cost), removed).repeat_interleave(unit, dim=1).view_as(weight)
    return torch.stack([refit(*one) for one in zip(exact, curvature, kept, strict=True)]).to(weight.dtype)
