"""Optimal Brain Surgeon, exactly: remove what costs least, adjust what stays, repeat (OBC, arXiv 2208.11580).

Axes: g groups, b rows, c columns, k weights of a unit (a kernel, or one weight), u units of a row, t units removed so
far.
"""

import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.pruning.elimination import inverse_form, pivot_on, refit

PIVOT_BYTES = 512 * 2**20  # of the pivot rows of one batch of rows; they are re-read at every removal


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
    units = columns // unit
    removed = round(groups * rows * units * sparsity)
    if removed == 0:
        return weight.clone()
    # float64: thousands of successive eliminations in float32 change the order of near ties.
    exact, curvature = weight.double(), hessian.double()
    order = weight.new_empty((groups, rows, units), dtype=torch.long)
    cost = exact.new_empty((groups, rows, units))
    for group in range(groups):
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(curvature[group]))  # (c, c)
        batch = max(1, PIVOT_BYTES // (columns * columns * inverse.element_size()))
        for start in range(0, rows, batch):
            part = slice(start, start + batch)
            order[group, part], cost[group, part] = removal_order(exact[group, part], inverse, unit)
    kept = _spend(order, cost, removed).repeat_interleave(unit, dim=2)  # (g, r, c)
    result = torch.stack([refit(exact[group], curvature[group], kept[group]) for group in range(groups)])
    return result.to(weight.dtype)


def removal_order(weight: Tensor, inverse: Tensor, unit: int) -> tuple[Tensor, Tensor]:
    """Each row's units in the order greedy OBS removes them, and what each removal costs: (b, u) and (b, u).

    weight (b, c), inverse (c, c) of the Hessian. A unit P costs w_P (Hinv_PP)^-1 w_P; eliminating it leaves Hinv -
    Hinv_:P (Hinv_PP)^-1 Hinv_P:. That matrix is never formed: only its diagonal blocks and the rows of the chosen units
    are read, so the scaled pivot rows V = L^-1 Hinv_P: (with L L^T = Hinv_PP) are kept, and a row of the current
    inverse is the first one minus V_P^T V.
    """
    rows, columns = weight.shape
    units = columns // unit
    at = torch.arange(rows, device=weight.device)
    w = weight.clone()
    by_unit = inverse.reshape(units, unit, columns)  # (u, k, c): the rows of the first inverse
    diagonal = torch.stack([inverse[i : i + unit, i : i + unit] for i in range(0, columns, unit)])  # (u, k, k)
    diagonal = diagonal.expand(rows, units, unit, unit).clone()  # (b, u, k, k): of each row's current inverse
    pivots = w.new_empty((rows, units * unit, columns))  # (b, t*k, c)
    order = torch.empty((rows, units), dtype=torch.long, device=w.device)
    cost = w.new_empty((rows, units))
    gone = torch.zeros((rows, units), dtype=torch.bool, device=w.device)
    identity = torch.eye(unit, dtype=w.dtype, device=w.device)
    for step in range(units):
        # A removed unit's diagonal block has become zero; the identity stands in so that the factorisation below
        # succeeds.
        safe = torch.where(gone[:, :, None, None], identity, diagonal)
        price = inverse_form(w.view(rows, units, unit), safe).masked_fill(gone, torch.inf)  # (b, u)
        chosen = price.argmin(1)  # (b,)
        order[:, step], cost[:, step] = chosen, price[at, chosen]
        inside = chosen[:, None] * unit + torch.arange(unit, device=w.device)  # (b, k): the columns of the chosen unit
        past = pivots[:, : step * unit]  # (b, t*k, c)
        pivot, share = pivot_on(by_unit[chosen], past, inside, safe[at, chosen], w)  # (b, k, c), (b, k, 1)
        w -= (share * pivot).sum(1)
        gone[at, chosen] = True
        w.view(rows, units, unit)[gone] = 0  # exactly: what rounding left there must not creep back
        pivots[:, step * unit : (step + 1) * unit] = pivot
        of_unit = pivot.view(rows, unit, units, unit)  # (b, k, u, k)
        diagonal -= torch.einsum("bkui,bkuj->buij", of_unit, of_unit)
    return order, cost


def _spend(order: Tensor, cost: Tensor, removed: int) -> Tensor:
    """Spend the layer's budget on the cheapest next removal of any row; each row loses a prefix of its own order.

    order, cost (g, r, u) -> kept (g, r, u) bool with exactly `removed` units False. A removal that is cheaper than the
    ones before it in its row can only follow them, so the running maximum of a row's costs is what ranks it; a stable
    sort keeps a row's own order in ties.
    """
    rank = cost.cummax(dim=2).values.flatten().argsort(stable=True)[:removed]
    lost = torch.zeros(cost.numel(), dtype=torch.bool, device=cost.device)
    lost[rank] = True  # in removal order
    return torch.ones_like(order, dtype=torch.bool).scatter_(2, order, ~lost.view_as(order))
