"""Backward elimination, for OBS and for the end of forward selection: the order of removal, the budget, the refit.

Axes: b rows (of any group), c columns, k weights of a unit (a kernel, or one weight), u units of a row, n columns that
are left of a row, s kept weights of a row, t columns eliminated since the last whole update.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SOLVE_BYTES = 64 * 2**20  # of one batch of systems: their places, factors and copies take five times as much
WORK_BYTES = 256 * 2**20  # of the matrices of one batch of rows
# Columns eliminated between two whole updates. The updates are matrix products then, and the pivots stay in the cache.
# A step of a kernel reads the pivots for k columns at once, so more columns pay off.
BLOCK, KERNEL_BLOCK = 32, 64
COMPACT = 0.8  # removed units are cut out once this share is left: a copy costs about as much as an update
MOST_INFLATION = 1e3  # more would leave float32 fewer than three digits
LOOK = 4  # kernels whose price is refreshed at once: the cheapest is nearly always among them


def refit(weight: Tensor, hessian: Tensor, kept: Tensor, target: Tensor | None = None) -> Tensor:
    """argmin over W' supported on `kept` of ||W' X - W X||^2, row by row: H[S,S] w' = (W H)[S].

    weight (b, c), hessian (c, c) positive definite, kept (b, c) bool, target (b, c) = W H where it is known -> (b, c),
    exactly zero off the support; a row that keeps everything is returned as it was. It is solved in the Hessian's
    precision: an error of 1e-4 in the solution raises the least error by 1e-8. In float64 where float32 might lose
    more. Source: the closed form behind OBC's updates (arXiv 2208.11580, section 4).
    """
    result = torch.where(kept, weight, torch.zeros_like(weight))
    target = weight @ hessian.to(weight.dtype) if target is None else target  # (b, c)
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
        system = submatrices(hessian[None], torch.zeros_like(rows), columns)  # (b, s, s)
        system.mul_(real[:, :, None] & real[:, None, :])
        system.diagonal(dim1=1, dim2=2).add_(~real)
        factor = stable_factor(system)
        right = target[rows].gather(1, columns) * real  # (b, s)
        solution = torch.cholesky_solve(right[:, :, None].to(factor.dtype), factor)[:, :, 0]
        result[rows] = torch.zeros_like(result[rows]).scatter_add_(1, columns, (solution * real).to(result.dtype))
    return result


def stable_factor(system: Tensor) -> Tensor:
    """The Cholesky factor of each matrix (b, s, s), float64 where float32 leaves few digits on its diagonal."""
    factor, failed = torch.linalg.cholesky_ex(system)
    if system.dtype == torch.float32:
        left = factor.diagonal(dim1=1, dim2=2).square() * MOST_INFLATION
        failed = failed.any() | ~(left > system.diagonal(dim1=1, dim2=2)).all()
    exact: Tensor = torch.linalg.cholesky(system.double()) if bool(failed.any()) else factor
    return exact


def invert(hessian: Tensor) -> Tensor:
    """The inverse of each matrix (b, c, c): in float32, in half the time, where that is exact enough, else in float64.

    The variance inflation H_jj Hinv_jj says by how much rounding errors grow.
    """
    factor, failed = torch.linalg.cholesky_ex(hessian.float())
    if not bool(failed.any()):
        inverse = torch.cholesky_inverse(factor)
        inflation = hessian.diagonal(dim1=1, dim2=2) * inverse.diagonal(dim1=1, dim2=2)
        if bool((inflation < MOST_INFLATION).all()):
            return inverse
    return torch.cholesky_inverse(torch.linalg.cholesky(hessian.double()))


@dataclass
class _Remainder:
    """A batch of rows, without what was removed. Removed units stay, with `alive` False, until the next compaction."""

    weight: Tensor  # (b, n), adjusted for all removals
    inverse: Tensor  # (b, n, n): of the Hessian of what was left at the last whole update
    pivots: Tensor  # (b, t, n): of the columns eliminated since then
    price: Tensor  # (b, u, k, k): Hinv_PP^-1 of each unit, now (single weights) or at some time before (kernels)
    unit: Tensor  # (b, u): which unit of the row this is
    alive: Tensor  # (b, u) bool
    room: tuple[Tensor, Tensor]  # two times b n n: new memory costs more time than what is computed in it

    @property
    def size(self) -> int:
        """k, the weights of a unit."""
        return self.price.shape[-1]


def removal_order(
    weight: Tensor, inverse: Tensor, unit: int, budget: int | None = None, limit: float = torch.inf
) -> tuple[Tensor, Tensor]:
    """Each row's units in the order greedy OBS removes them, and what each removal costs: (b, u) and (b, u).

    weight (b, c), inverse of the Hessian (c, c) or (b, c, c). A unit P costs w_P (Hinv_PP)^-1 w_P; eliminating it
    leaves Hinv - V^T V with the scaled pivot rows V = L^-1 Hinv_P:, L L^T = Hinv_PP (OBC, arXiv 2208.11580, equations 3
    and 4). The pivot rows of BLOCK columns are kept aside and applied in one matrix product.

    `budget`: how many removals the whole layer will make. The search ends once no row can have one more of the cheapest
    `budget` removals, nor one that costs less than `limit`; removals that were not searched cost inf.
    """
    rows, columns = weight.shape
    units = columns // unit
    order = torch.zeros((rows, units), dtype=torch.long, device=weight.device)
    cost = weight.new_full((rows, units), torch.inf)
    rest = _start(weight, inverse, unit)
    done = 0
    while done < units:
        for _ in range(min(BLOCK if unit == 1 else max(1, KERNEL_BLOCK // unit), units - done)):
            place, cost[:, done] = _find_cheapest(rest)  # (b,), (b,)
            order[:, done] = rest.unit.gather(1, place[:, None])[:, 0]
            _eliminate(rest, place)
            done += 1
        if done < units:
            if budget is not None and _is_enough(cost[:, :done], budget, limit):
                break
            _update(rest, units - done)
    return order, cost


def spend(order: Tensor, cost: Tensor, removed: int, units: int | None = None) -> Tensor:
    """Spend the layer's budget on the cheapest next removal of any row; each row loses a prefix of its own order.

    order, cost (b, s): the first removals of rows of `units` (None: s) -> kept (b, u) bool with exactly `removed` units
    False. A removal can only follow the ones before it in its row, even if it is cheaper. So it is ranked by the
    running maximum of its row's costs; a stable sort keeps a row's own order in ties.
    """
    rank = cost.cummax(dim=1).values.flatten().argsort(stable=True)[:removed]
    row, step = rank // cost.shape[1], rank % cost.shape[1]
    kept = torch.ones((len(order), units or order.shape[1]), dtype=torch.bool, device=order.device)
    kept[row, order[row, step]] = False
    return kept


def threshold(cost: Tensor, removed: int) -> float:
    """The highest cost among the layer's `removed` cheapest removals found so far; inf while fewer are found."""
    found = cost.cummax(dim=1).values.flatten()
    return float(found.kthvalue(removed).values) if 0 < removed <= len(found) else torch.inf


def _is_enough(cost: Tensor, budget: int, limit: float) -> bool:
    return bool((cost.cummax(dim=1).values[:, -1] >= min(limit, threshold(cost, budget))).all())


def _start(weight: Tensor, inverse: Tensor, unit: int) -> _Remainder:
    rows, columns = weight.shape
    units = columns // unit
    blocks = diagonal_blocks(inverse, unit)  # (u, k, k) or (b, u, k, k)
    price = blocks.reciprocal() if unit == 1 else torch.linalg.inv(blocks)
    return _Remainder(
        weight=weight.clone(),
        inverse=inverse.expand(rows, columns, columns),
        pivots=weight.new_empty((rows, 0, columns)),
        price=price.expand(rows, units, unit, unit).clone(),
        unit=torch.arange(units, device=weight.device).expand(rows, units),
        alive=torch.ones((rows, units), dtype=torch.bool, device=weight.device),
        room=(weight.new_empty(rows * columns * columns), weight.new_empty(rows * columns * columns)),
    )


def diagonal_blocks(matrix: Tensor, unit: int) -> Tensor:
    """(..., n, n) -> (..., u, k, k)."""
    if unit == 1:
        return matrix.diagonal(dim1=-2, dim2=-1)[..., None, None]
    units = matrix.shape[-1] // unit
    blocks: Tensor = matrix.unflatten(-1, (units, unit)).unflatten(-3, (units, unit))  # (..., u, k, u, k)
    return blocks.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def _find_cheapest(rest: _Remainder) -> tuple[Tensor, Tensor]:
    """Each row's cheapest unit, its place (b,), and what it costs (b,).

    Eliminations only shrink Hinv_PP, so a price from an older inverse is a lower bound. Prices of kernels are
    refreshed, the cheapest first, until the cheapest one is fresh. Those of single weights always are.
    """
    grouped = rest.weight.unflatten(1, (-1, rest.size))  # (b, u, k)
    if rest.size == 1:
        cost = grouped[..., 0].square().mul(rest.price[..., 0, 0]).masked_fill_(~rest.alive, torch.inf)
        least, place = cost.min(1)
        return place, least
    cost = torch.einsum("bui,buij,buj->bu", grouped, rest.price, grouped).masked_fill_(~rest.alive, torch.inf)
    fresh = torch.zeros_like(rest.alive)
    while True:
        least, place = cost.min(1)
        if bool(fresh.gather(1, place[:, None]).all()):
            return place, least
        look = cost.topk(min(LOOK, cost.shape[1]), largest=False).indices
        look = torch.cat([place[:, None], look], 1)  # (b, 1 + LOOK): of equal units topk may take others
        values, price = _refresh_prices(rest, look)  # (b, LOOK, k), (b, LOOK, k, k)
        at = torch.arange(len(look), device=look.device)[:, None]
        dead = ~rest.alive.gather(1, look)
        rest.price[at, look] = price
        cost[at, look] = torch.einsum("bui,buij,buj->bu", values, price, values).masked_fill_(dead, torch.inf)
        fresh[at, look] = True


def _refresh_prices(rest: _Remainder, look: Tensor) -> tuple[Tensor, Tensor]:
    """The weights (b, l, k) of the units at `look` (b, l), and their prices (b, l, k, k) after all eliminations."""
    unit = rest.size
    columns = columns_of(look, unit).unflatten(1, (-1, unit))  # (b, l, k)
    at = torch.arange(len(look), device=look.device)[:, None]
    block = rest.inverse[at[:, :, None, None], columns[..., :, None], columns[..., None, :]]  # (b, l, k, k)
    past = rest.pivots.transpose(1, 2)[at[:, :, None], columns]  # (b, l, k, t)
    block = block - past @ past.transpose(-1, -2)
    # A removed unit's block has become zero; the identity stands in, and its price is never looked at.
    gone = ~rest.alive.gather(1, look)
    block = torch.where(gone[..., None, None], torch.eye(unit, dtype=block.dtype, device=block.device), block)
    return rest.weight[at[:, :, None], columns], torch.linalg.inv(block)


def columns_of(units: Tensor, unit: int) -> Tensor:
    """Places of units (b, l) -> places of their columns (b, l k)."""
    if unit == 1:
        return units
    return (units[:, :, None] * unit + torch.arange(unit, device=units.device)).flatten(1)


def submatrices(hessian: Tensor, of_group: Tensor, columns: Tensor) -> Tensor:
    """H[S, S] of each row's own columns: hessian (g, c, c), of_group (b,), columns (b, s) -> (b, s, s)."""
    small = torch.int32 if hessian.numel() < 2**31 else torch.int64  # the places take as much memory as the values
    of_group, columns = of_group.to(small), columns.to(small)
    flat = (of_group[:, None] * hessian.shape[-1] + columns)[:, :, None] * hessian.shape[-1] + columns[:, None, :]
    return hessian.reshape(-1).index_select(0, flat.flatten()).view(flat.shape)


def gather_rows(hessian: Tensor, of_group: Tensor, columns: Tensor) -> Tensor:
    """H[S] of each row's own columns: hessian (g, c, c), of_group (b,), columns (b, s) -> (b, s, c)."""
    flat = of_group[:, None] * hessian.shape[-1] + columns
    return hessian.flatten(0, 1).index_select(0, flat.flatten()).view(*flat.shape, -1)


def whiten(block: Tensor, *right: Tensor) -> list[Tensor]:
    """L^-1 R for each R (b, k, ...), where L L^T = block (b, k, k)."""
    if block.shape[-1] == 1:
        scale = block.rsqrt()
        return [one * scale for one in right]
    factor = torch.linalg.cholesky(block)
    return [torch.linalg.solve_triangular(factor, one, upper=False) for one in right]


def _eliminate(rest: _Remainder, place: Tensor) -> None:
    """Remove the unit at `place` (b,) from every row: new pivot rows, the other weights adjusted, in place."""
    unit = rest.size
    inside = columns_of(place[:, None], unit)  # (b, k)
    rows = rest.inverse.gather(1, inside[:, :, None].expand(-1, -1, rest.weight.shape[1]))  # (b, k, n)
    there = rest.pivots.gather(2, inside[:, None, :].expand(-1, rest.pivots.shape[1], -1))  # (b, t, k)
    rows = torch.baddbmm(rows, there.transpose(1, 2), rest.pivots, alpha=-1)
    block = rows.gather(2, inside[:, None, :].expand(-1, unit, -1))  # (b, k, k): Hinv_PP
    values = rest.weight.gather(1, inside)[:, :, None]  # (b, k, 1)
    pivot, share = whiten(block, rows, values)  # (b, k, n), (b, k, 1)
    rest.weight -= (share * pivot).sum(1)
    rest.weight.scatter_(1, inside, 0)  # exactly: no rounding error may stay there
    rest.alive.scatter_(1, place[:, None], False)
    rest.pivots = torch.cat([rest.pivots, pivot], 1)
    if unit == 1:
        # 1 / (d - v^2) from 1 / d: the prices of single weights stay exact, for one pass over the row.
        price = rest.price[..., 0, 0]
        price.div_(1 - price * pivot[:, 0].square()).masked_fill_(~rest.alive, 1)


def _update(rest: _Remainder, units: int) -> None:
    """Apply the pivots to the inverse in one product; cut removed units out if they are many; `units` are left."""
    if units <= COMPACT * rest.alive.shape[1]:
        _compact(rest, units)
    rows, size = rest.weight.shape
    out = rest.inverse if _owns_inverse(rest) else rest.room[1][: rows * size * size].view(rows, size, size)
    torch.baddbmm(rest.inverse, rest.pivots.transpose(1, 2), rest.pivots, alpha=-1, out=out)
    rest.inverse, rest.pivots = out, rest.pivots[:, :0]


def _owns_inverse(rest: _Remainder) -> bool:
    """Whether the inverse is in our own memory, and not the caller's."""
    return rest.inverse.untyped_storage().data_ptr() == rest.room[1].untyped_storage().data_ptr()


def _compact(rest: _Remainder, units: int) -> None:
    """Cut the removed units out, `units` of each row are left."""
    unit, rows, size = rest.size, *rest.weight.shape
    alive = rest.alive.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :units]  # (b, u)
    inside = columns_of(alive, unit)  # (b, n)
    kept = inside.shape[1]
    cut = rest.room[0][: rows * kept * size].view(rows, kept, size)
    torch.gather(rest.inverse, 1, inside[:, :, None].expand(-1, -1, size), out=cut)
    rest.inverse = rest.room[1][: rows * kept * kept].view(rows, kept, kept)
    torch.gather(cut, 2, inside[:, None, :].expand(-1, kept, -1), out=rest.inverse)
    rest.pivots = rest.pivots.gather(2, inside[:, None, :].expand(-1, rest.pivots.shape[1], -1))
    rest.weight = rest.weight.gather(1, inside)
    rest.unit = rest.unit.gather(1, alive)
    rest.price = rest.price.gather(1, alive[:, :, None, None].expand(-1, -1, unit, unit))
    rest.alive = torch.ones_like(alive, dtype=torch.bool)
