"""Forward selection: choose the few weights that stay, instead of removing the many that go.

Each row chooses some more units than will stay (`selection`). Then the units that cost least are given up, over the
whole layer, as OBS would (`elimination`). What stays is refitted exactly.
Axes: g groups, r rows of a group, b rows of all groups, c columns, k weights of a unit (a kernel, or one weight),
u units of a row, s units of a row's support.
"""

import math

import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.pruning.solvers.damped_hessian import Hessian, LowRank
from spade_cli.pruning.solvers.elimination import (
    WORK_BYTES,
    columns_of,
    invert,
    refit,
    removal_order,
    spend,
    submatrices,
    threshold,
)
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.pruner import handles
from spade_cli.pruning.solvers.selection import select
from spade_cli.pruning.solvers.wide_layers import forward_wide

# Units that a row chooses beyond the mean number that stays. Rows differ in how many they need, most where few stay,
# and a unit that is given up again was a worse choice than it seemed. Without them the error on SqueezeNet's layers is
# 5 % higher.
SURPLUS, LEAST_SURPLUS = 0.25, 8
# Rows of wide layers choose among the larger half of their weights, by |w_j| ||X_j|| as in Wanda. This halves the time
# and adds at most 0.8 % to the error on SqueezeNet's layers; four tenths instead of half add up to 1.8 %.
SCREENED_FROM, SCREEN = 1024, 0.5
# Choosing costs s^2 c / 2 a row, removing (c^3 - s^3) / 3 and the inverse as much again.
BACKWARD_FROM = 0.7  # share of the units that rows have to choose, from which removing is cheaper
EXACT_UP_TO = 640  # columns


@handles("low_rank", "stacked")
def forward(
    weight: Tensor, hessian: Hessian, sparsity: float, block: int, *, granularity: str = "weight", budget: str = "layer"
) -> Tensor:
    """Keep the units that explain most of the layer's output, each chosen given the others of its row.

    weight (g, r, c), hessian (g, c, c) positive definite, sparsity 0 to 1 of the layer's units; `granularity="kernel"`
    keeps runs of `block` columns, "weight" single weights; `budget="layer"` spends the units where they explain most,
    "row" keeps as many in every row, to within one. Returns (g, r, c) with exactly round(units * sparsity) units zero.
    Where most units stay, removing is cheaper than choosing: OBS does it, several units at a time beyond EXACT_UP_TO
    columns. (n, g, r, c) with (n, g, c, c) is one layer of n images, each with a budget of its own. In a layer so wide
    that its Hessian is `LowRank`, every row keeps as many.
    """
    if granularity not in ("kernel", "weight"):
        raise UserError(f"pruner.granularity={granularity} is unknown: choose kernel or weight")
    if budget not in ("layer", "row"):
        raise UserError(f"pruner.budget={budget} is unknown: choose layer or row")
    unit = block if granularity == "kernel" else 1
    if isinstance(hessian, LowRank) and unit > 1:
        hessian = hessian.dense()
    if isinstance(hessian, LowRank):
        staying = weight.numel() - round(weight.numel() * sparsity)
        return forward_wide(weight, hessian, staying) if staying < weight.numel() else weight.clone()
    images = weight[None] if weight.dim() == 3 else weight  # (n, g, r, c)
    units = images[0].numel() // unit
    staying = units - round(units * sparsity)
    if staying in (0, units):
        return torch.zeros_like(weight) if staying == 0 else weight.clone()
    in_a_row = images.shape[3] // unit
    picks = min(in_a_row, math.ceil(staying * in_a_row / units * (1 + SURPLUS)) + LEAST_SURPLUS)
    curvatures = hessian.view(len(images), -1, *hessian.shape[-2:])  # (n, g, c, c)
    if picks >= BACKWARD_FROM * in_a_row and budget == "layer":
        pruned = [_remove_units(*one, unit, units - staying) for one in zip(images, curvatures, strict=True)]
        return torch.stack(pruned).view_as(weight)
    # The rows of all images choose as one batch; each image spends its own budget.
    supports = choose_supports(images.flatten(0, 1), curvatures.flatten(0, 1), unit, picks).view(len(images), -1, picks)
    parts = zip(images, curvatures, supports, strict=True)
    return torch.stack([_thin(*part, unit, staying, budget) for part in parts]).view_as(weight)


def _remove_units(weight: Tensor, hessian: Tensor, unit: int, removed: int) -> Tensor:
    """Remove `removed` units where most stay: exact OBS up to EXACT_UP_TO columns, several units at a time beyond."""
    if weight.shape[2] <= EXACT_UP_TO:
        return obs(weight, hessian, removed / (weight.numel() // unit), unit)
    return _remove_few(weight, hessian, unit, removed)


def _thin(weight: Tensor, hessian: Tensor, supports: Tensor, unit: int, staying: int, budget: str) -> Tensor:
    """Rows give up units of their supports (b, s) until `staying` are left; what stays is refitted: (g, r, c)."""
    exact, curvature = weight.double(), hessian.double()
    target = exact @ curvature  # (g, r, c)
    removed = supports.numel() - staying
    order, cost = _order_removals(target, curvature, supports, unit, removed if budget == "layer" else None)
    if budget == "row":
        cost = _equalise_rows(cost, staying)
    stays = spend(order, cost, removed)  # (b, s)
    kept = torch.zeros((len(supports), weight.shape[2] // unit), dtype=torch.bool, device=weight.device)
    kept = _spread_units(kept.scatter_(1, supports, stays), unit).view_as(weight)
    fitted = [refit(*one) for one in zip(exact, curvature, kept, target, strict=True)]
    return torch.stack(fitted).to(weight.dtype)


def choose_supports(weight: Tensor, hessian: Tensor, unit: int, picks: int) -> Tensor:
    """The units that each row chooses, in their own order: weight (g, r, c), hessian (g, c, c) -> (b, picks)."""
    groups, rows, columns = weight.shape
    flat, curvature = weight.reshape(-1, columns), hessian
    # float64 for kernels, whose blocks of the Hessian are factorised many times; float32 finds the same single weights.
    if unit > 1:
        flat, curvature = flat.double(), curvature.double()
    among, width = None, columns
    if columns >= SCREENED_FROM:
        loads = weight.square() * hessian.diagonal(dim1=1, dim2=2)[:, None, :]  # (g, r, c): ||w_j X_j||^2
        loads = loads.reshape(len(flat), -1, unit).sum(2)  # (b, u)
        heavier = max(picks, round(loads.shape[1] * SCREEN))
        among, width = loads.topk(heavier).indices.sort(1).values, heavier * unit  # (b, n)
    correlation = (flat.view(groups, rows, columns) @ curvature).view(-1, columns)  # (b, c)
    order, _ = _select_in_batches(correlation, rows, curvature, unit, picks, width, among)
    return order.sort(1).values


def _select_in_batches(
    values: Tensor,
    rows: int,
    matrix: Tensor,
    unit: int,
    picks: int,
    width: int,
    among: Tensor | None = None,
    cheapest: bool = False,
) -> tuple[Tensor, Tensor]:
    """`select` for as many rows at a time as WORK_BYTES holds: values (b, c), `rows` of each matrix (g, c, c)."""
    of_group = torch.arange(len(matrix), device=values.device).repeat_interleave(rows)  # (b,)
    batch = max(1, WORK_BYTES // (picks * unit * width * values.element_size()))
    found = []
    for start in range(0, len(values), batch):
        part = slice(start, start + batch)
        of_these = None if among is None else among[part]
        found.append(select(values[part], of_group[part], matrix, unit, picks, of_these, cheapest=cheapest))
    orders, worths = zip(*found, strict=True)
    return torch.cat(orders), torch.cat(worths)


def _remove_few(weight: Tensor, hessian: Tensor, unit: int, removed: int) -> Tensor:
    """Remove `removed` units where most stay: each row removes too many, the dearest are put back: (g, r, c).

    weight (g, r, c), hessian (g, c, c). It is OBS, with several units picked at a time.
    """
    groups, rows, columns = weight.shape
    exact, curvature = weight.double(), hessian.double()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(curvature))
    picks = min(columns // unit, math.ceil(removed / (groups * rows) * (1 + SURPLUS)) + LEAST_SURPLUS)
    order, cost = _select_in_batches(exact.view(-1, columns), rows, inverse, unit, picks, columns, cheapest=True)
    kept = _spread_units(spend(order, cost, removed, columns // unit), unit).view_as(weight)
    return torch.stack([refit(*one) for one in zip(exact, curvature, kept, strict=True)]).to(weight.dtype)


def _spread_units(kept: Tensor, unit: int) -> Tensor:
    """Units (b, u) -> their columns (b, u k)."""
    return kept.repeat_interleave(unit, dim=1)


def _order_removals(
    target: Tensor, hessian: Tensor, supports: Tensor, unit: int, removed: int | None
) -> tuple[Tensor, Tensor]:
    """The order in which rows give up units of their supports (b, s), as places in these, and the costs: (b, s) both.

    target (g, r, c): W H, hessian (g, c, c), both float64.
    """
    groups, rows, columns = target.shape
    of_group = torch.arange(groups, device=target.device).repeat_interleave(rows)  # (b,)
    inside = columns_of(supports, unit)  # (b, s k)
    batch = max(1, WORK_BYTES // (4 * inside.shape[1] ** 2 * 8))  # the inverse, its factor and room for two more
    order, cost, limit = [], [], math.inf
    parts = zip(target.reshape(-1, columns).split(batch), of_group.split(batch), inside.split(batch), strict=True)
    for right, group, columns_in in parts:
        inverse = invert(submatrices(hessian, group, columns_in))
        fitted = (inverse.double() @ right.gather(1, columns_in)[:, :, None])[:, :, 0]  # (b, s k)
        found = removal_order(fitted.to(inverse.dtype), inverse, unit, removed, limit)
        order.append(found[0])
        cost.append(found[1].double())
        if removed is not None:
            limit = min(limit, threshold(torch.cat(cost), removed))
    return torch.cat(order), torch.cat(cost)


def _equalise_rows(cost: Tensor, staying: int) -> Tensor:
    """Costs (b, s) with which every row keeps `staying` / b units, and the rows that would lose most keep one more.

    The removals that every row makes cost -1, those that no row makes cost inf; the one in between keeps its cost.
    """
    rows, picks = cost.shape
    sure = picks - math.ceil(staying / rows)
    step = torch.arange(picks, device=cost.device)
    cost = torch.where(step < sure, -1.0, cost.cummax(1).values)
    return torch.where(step > sure, torch.inf, cost)
