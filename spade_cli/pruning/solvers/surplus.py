"""From supports with a surplus to the units that stay: what costs least is given up, over the whole layer.

Axes: g groups, r rows of a group, b rows of all groups, c columns, k weights of a unit (a kernel, or one weight),
u units of a row, s units of a row's support.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spade_cli.pruning.solvers.elimination import (
    WORK_BYTES,
    columns_of,
    gather_rows,
    invert,
    refit,
    removal_order,
    spend,
    stable_factor,
    submatrices,
    threshold,
)

NARROWER = 0.75  # rows of one batch have supports of one width, and none is widened by more
# Units that a row may take in for others in an exchange, as a share of the mean that stays, and at least.
EXCHANGE, LEAST_EXCHANGE = 0.15, 8
MOST_ROUNDS = 8  # of exchange, where rows of a layer differ so much that some are offered too little
LEAST = 1e-6  # of its curvature: a unit with less left is a combination of those that stay


@dataclass(frozen=True)
class Layer:
    """What is known of a layer before anything is chosen. `target` and `exact` are float64."""

    exact: Tensor  # (g, r, c): W
    hessian: Tensor  # (g, c, c), in the precision that it came in
    target: Tensor  # (g, r, c): W H
    of_group: Tensor  # (b,): which Hessian is a row's
    unit: int = 1

    @classmethod
    def of(cls, weight: Tensor, hessian: Tensor, unit: int) -> "Layer":
        """Weight (g, r, c), hessian (g, c, c)."""
        groups, rows, _ = weight.shape
        of_group = torch.arange(groups, device=weight.device).repeat_interleave(rows)
        exact = weight.double()
        return cls(exact, hessian, exact @ hessian.double(), of_group, unit)

    def fit(self, kept: Tensor) -> Tensor:
        """The best weights on the units that stay: kept (b, u) bool -> (g, r, c) float64."""
        kept = kept.repeat_interleave(self.unit, dim=1).view(self.exact.shape)
        return torch.stack([refit(*one) for one in zip(self.exact, self.hessian, kept, self.target, strict=True)])


def thin(layer: Layer, units: Tensor, counts: Tensor, staying: Sequence[int], budget: str = "layer") -> list[Tensor]:
    """Which units stay, (b, u) bool, for each number of them, from one order of removal.

    units (b, s): those of each row, best first; counts (b,): how many of them are its support. `budget`: "layer" spends
    what stays where it explains most, "row" in every row alike, to within one.
    """
    inside = torch.zeros(len(units), layer.exact.shape[2] // layer.unit, dtype=torch.bool, device=units.device)
    for rows, width in _batches(counts, _most_rows(units.shape[1] * layer.unit)):
        inside[rows[:, None], units[rows, :width]] = True
    chosen = int(inside.sum())
    order, cost = _order_removals(layer, units, counts, chosen - min(staying) if budget == "layer" else None)
    found = []
    for stay in staying:
        price = _equalise_rows(cost, stay) if budget == "row" else cost
        found.append(inside & spend(order, price, chosen - stay, inside.shape[1]))
    return found


def exchange(layer: Layer, kept: Tensor, counts: Tensor | None, rounds: int) -> Tensor:
    """The best weights after rounds of exchange, (g, r, c) float64; kept (b, u) bool of supports with `counts` (b,).

    A round: each row takes in the weights outside that would lower the error most, each by itself. Then the layer gives
    up as many as came in, the cheapest of any row: so weights also move from row to row. The error never rises: a round
    that gains nothing is undone, and is the last. Where a row kept its whole support, more than `rounds` follow,
    MOST_ROUNDS at most, while a row grows by half of what a round offers. `counts` None: supports had no limit, and no
    more follow. For single weights.
    """
    staying = int(kept.sum())
    extra = max(LEAST_EXCHANGE, round(EXCHANGE * staying / len(kept)))
    fitted = None
    limited = counts is not None and bool(((kept.sum(1) >= counts) & (counts < kept.shape[1])).any())
    short = limited
    for done in range(MOST_ROUNDS):
        if done >= rounds and not short:
            break
        gain, explained = _gains(layer, kept)
        offered = (kept.sum(1) + extra).clamp_max(kept.shape[1])
        units = gain.topk(int(offered.max()), dim=1).indices
        (better,) = thin(layer, units, offered, [staying])
        found = layer.fit(better)
        # The error of the best weights w on a support: w H w of the dense ones, less what they explain, target times w.
        if float((layer.target * found).sum()) < explained:
            break
        short = limited and int((better.sum(1) - kept.sum(1)).max()) >= extra / 2
        kept, fitted = better, found
    return layer.fit(kept) if fitted is None else fitted


def _gains(layer: Layer, kept: Tensor) -> tuple[Tensor, float]:
    """By how much each weight outside would lower the error, inf inside, (b, u), and what those inside explain.

    q^2 / g, with q its correlation with what is not explained and g its curvature given the support.
    """
    target = layer.target.flatten(0, 1)  # (b, c)
    curvature = layer.hessian.diagonal(dim1=1, dim2=2)
    gain = torch.full_like(target, torch.inf, dtype=layer.hessian.dtype)
    explained = 0.0
    counts = kept.sum(1)
    for rows, width in _batches(counts, max(1, WORK_BYTES // (16 * target.shape[1] * max(1, int(counts.max()))))):
        columns = (~kept[rows]).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # (b, s)
        real = torch.arange(width, device=kept.device) < counts[rows, None]
        system = submatrices(layer.hessian, layer.of_group[rows], columns)
        system.mul_(real[:, :, None] & real[:, None, :]).diagonal(dim1=1, dim2=2).add_(~real)
        factor = stable_factor(system)
        identity = torch.eye(width, dtype=factor.dtype, device=factor.device).expand_as(factor)
        # L^-1 of the small systems first: a product with the many columns outside is quicker than a triangular solve.
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False) * real[:, None, :]
        right = target[rows].gather(1, columns)[:, :, None].to(factor.dtype)  # (b, s, 1)
        share = (inverse @ right).transpose(1, 2)  # (b, 1, s)
        outside = gather_rows(layer.hessian, layer.of_group[rows], columns)  # (b, s, c)
        pivots = inverse @ outside.to(factor.dtype)
        rest = target[rows].to(factor.dtype) - (share @ pivots)[:, 0]
        whole = curvature[layer.of_group[rows]].to(factor.dtype)
        left = whole - pivots.square_().sum(1)
        worth = (rest.square() / left).masked_fill_(left < LEAST * whole, 0)
        gain[rows] = worth.masked_fill_(kept[rows], torch.inf).to(gain.dtype)
        explained += float(share.double().square().sum())
    return gain, explained


def _order_removals(layer: Layer, units: Tensor, counts: Tensor, removed: int | None) -> tuple[Tensor, Tensor]:
    """The order in which rows give up units of their supports, and the costs: (b, s) both, inf where not searched."""
    target = layer.target.flatten(0, 1)
    order = units.clone()
    cost = target.new_full(units.shape, torch.inf)
    limit = math.inf
    for rows, width in _batches(counts, _most_rows(units.shape[1] * layer.unit)):
        sorted_units = units[rows, :width].sort(1).values
        columns, group = columns_of(sorted_units, layer.unit), layer.of_group[rows]
        inverse = invert(submatrices(layer.hessian, group, columns))
        right = target[rows].gather(1, columns)[:, :, None].to(inverse.dtype)
        places, price = removal_order((inverse @ right)[:, :, 0], inverse, layer.unit, removed, limit)
        order[rows, :width] = sorted_units.gather(1, places)
        cost[rows, :width] = price.double()
        if removed is not None:
            limit = min(limit, threshold(cost, removed))
    return order, cost


def _most_rows(width: int) -> int:
    """Of supports this wide: the inverse, its factor and room for two more."""
    return max(1, WORK_BYTES // (4 * width**2 * 8))


def _batches(counts: Tensor, most: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of like counts (b,), at most so many at a time, and the highest count of each batch."""
    rows = counts.argsort(descending=True, stable=True)
    sizes = counts[rows].tolist()
    start = 0
    while start < len(sizes) and sizes[start]:
        end = start + 1
        while end < min(len(sizes), start + most) and sizes[end] >= NARROWER * sizes[start]:
            end += 1
        yield rows[start:end], sizes[start]
        start = end


def _equalise_rows(cost: Tensor, staying: int) -> Tensor:
    """Costs (b, s) with which every row keeps `staying` / b units, and the rows that would lose most keep one more.

    The removals that every row makes cost -1, those that no row makes cost inf; the one in between keeps its cost.
    """
    rows, picks = cost.shape
    sure = picks - math.ceil(staying / rows)
    step = torch.arange(picks, device=cost.device)
    cost = torch.where(step < sure, -1.0, cost.cummax(1).values)
    return torch.where(step > sure, torch.inf, cost)
