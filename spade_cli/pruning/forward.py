"""Forward selection: choose the few weights that stay, instead of removing the many that go.

Orthogonal least squares in the metric of the Hessian (Chen, Cowan and Grant 1991): each row starts empty, takes the
unit that lowers its error most given those it has, and what stays is refitted exactly.
Axes: g groups, r rows of a group, b rows of all groups, c columns, k weights of a unit (a kernel, or one weight),
u units of a row, t units chosen so far.
"""

import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.pruning.elimination import inverse_form, pivot_on, refit

PIVOT_BYTES = 512 * 2**20  # of the pivot rows of one batch of rows; they are re-read at every choice
LEAST = 1e-6  # of its first curvature: a unit with less left is a combination of chosen ones and adds nothing


def forward(weight: Tensor, hessian: Tensor, sparsity: float, block: int, *, granularity: str = "weight") -> Tensor:
    """Keep, in every row alike, the units that explain most of the row's output, each chosen given those before it.

    weight (g, r, c), hessian (g, c, c) positive definite, sparsity 0 to 1 of the layer's units; `granularity="kernel"`
    keeps runs of `block` columns, "weight" single weights. Returns (g, r, c) with exactly round(units * sparsity) units
    zero. Where what stays is no multiple of the rows, the rows with most to gain keep one unit more.
    """
    if granularity not in ("kernel", "weight"):
        raise UserError(f"pruner.granularity={granularity} is unknown: choose kernel or weight")
    unit = block if granularity == "kernel" else 1
    groups, rows, columns = weight.shape
    everything = weight.numel() // unit
    staying = everything - round(everything * sparsity)
    if staying == everything:
        return weight.clone()
    every_row, more = divmod(staying, groups * rows)
    picks = every_row + (more > 0)
    # float64 for kernels, whose curvature blocks are factorised again and again; float32 finds the same single weights.
    precision = torch.float64 if unit > 1 else hessian.dtype
    flat, curvature = weight.reshape(-1, columns).to(precision), hessian.to(precision)
    of_group = torch.arange(groups, device=weight.device).repeat_interleave(rows)  # (b,)
    batch = max(1, PIVOT_BYTES // max(1, picks * unit * columns * flat.element_size()))
    chosen = [
        choose(*part, curvature, unit, picks) for part in zip(flat.split(batch), of_group.split(batch), strict=True)
    ]
    order, gain = (torch.cat(parts) for parts in zip(*chosen, strict=True))  # (b, picks) each
    kept = torch.zeros((len(flat), columns // unit), dtype=torch.bool, device=weight.device)
    kept.scatter_(1, order[:, :every_row], True)
    if more:
        richest = gain[:, every_row].argsort(descending=True, stable=True)[:more]
        kept[richest, order[richest, every_row]] = True
    kept = kept.repeat_interleave(unit, dim=1).reshape(weight.shape)
    # float64: the systems of what stays are small, and nearly singular where inputs are alike.
    fitted = [refit(w.double(), h.double(), k) for w, h, k in zip(weight, hessian, kept, strict=True)]
    return torch.stack(fitted).to(weight.dtype)


def choose(weight: Tensor, of_group: Tensor, hessian: Tensor, unit: int, picks: int) -> tuple[Tensor, Tensor]:
    """Each row's first `picks` units in the order they are chosen, and what each gains: (b, picks) twice.

    weight (b, c), of_group (b,) the row's Hessian among hessian (g, c, c). With the chosen columns eliminated, a unit P
    has the correlation q_P with what is still unexplained and the curvature D_P; choosing it gains q_P D_P^-1 q_P. The
    eliminated Hessian is never formed: the scaled pivot rows V = L^-1 H_P: (with L L^T = D_P) are kept, and a row of it
    is the first one minus V_P^T V.
    """
    rows, columns = weight.shape
    units = columns // unit
    at = torch.arange(rows, device=weight.device)
    by_unit = hessian.reshape(len(hessian), units, unit, columns)  # (g, u, k, c)
    # The rows come group by group, so the parts are in order.
    correlation = torch.cat([weight[of_group == g] @ hessian[g] for g in of_group.unique()])  # (b, c)
    first = torch.stack([hessian[:, i : i + unit, i : i + unit] for i in range(0, columns, unit)], 1)  # (g, u, k, k)
    least = LEAST * first.diagonal(dim1=2, dim2=3).amin(2)[of_group]  # (b, u)
    left = first[of_group]  # (b, u, k, k): curvature of each unit with the chosen ones eliminated
    pivots = weight.new_empty((rows, picks * unit, columns))  # (b, t*k, c)
    order = torch.empty((rows, picks), dtype=torch.long, device=weight.device)
    gain = weight.new_empty((rows, picks))
    taken = torch.zeros((rows, units), dtype=torch.bool, device=weight.device)
    identity = torch.eye(unit, dtype=weight.dtype, device=weight.device)
    for step in range(picks):
        spent = taken | (left.diagonal(dim1=2, dim2=3).amin(2) < least)  # (b, u)
        safe = torch.where(spent[:, :, None, None], identity, left)
        worth = inverse_form(correlation.view(rows, units, unit), safe)  # (b, u)
        worth = worth.masked_fill(spent, 0).masked_fill(taken, -1)  # a spent unit adds nothing, a taken one is gone
        best = worth.argmax(1)  # (b,)
        order[:, step], gain[:, step] = best, worth[at, best]
        inside = best[:, None] * unit + torch.arange(unit, device=weight.device)  # (b, k): columns of the best unit
        past = pivots[:, : step * unit]  # (b, t*k, c)
        pivot, share = pivot_on(by_unit[of_group, best], past, inside, safe[at, best], correlation)
        correlation = correlation - (share * pivot).sum(1)
        taken[at, best] = True
        pivots[:, step * unit : (step + 1) * unit] = pivot
        of_unit = pivot.view(rows, unit, units, unit)  # (b, k, u, k)
        left = left - torch.einsum("bkui,bkuj->buij", of_unit, of_unit)
    return order, gain
