"""Greedy elimination, unit after unit, for all rows at once: it chooses what stays, or removes what goes.

Eliminating the columns S of a matrix A leaves A - A_:S A_SS^-1 A_S:. With A = H and values q = W H (the correlation
with what is not explained yet) the unit of largest q_P A_PP^-1 q_P is the best to add: orthogonal least squares in the
metric of the Hessian (Chen, Cowan and Grant 1991). With A = H^-1 and values W the unit of smallest w_P A_PP^-1 w_P is
the cheapest to remove: Optimal Brain Surgeon. Either way the values become q - A_:S A_SS^-1 q_S.
Axes: g groups, b rows of all groups, c columns, k weights of a unit (a kernel, or one weight), u units of a row, t
columns eliminated so far, m candidate units, p units picked between two whole updates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spade_cli.pruning.solvers.elimination import columns_of, diagonal_blocks, gather_rows, submatrices, whiten

LEAST = 1e-6  # of its first curvature: a unit with less left is a combination of picked ones and adds nothing
# Units picked between two whole updates. The candidates are exact among themselves; a unit that was worth little before
# these picks may be missed. The more are picked already, the less a pick changes. On SqueezeNet's layers no error grew
# by more than 0.2 %.
PICKS_PER_PICKED = 1 / 8
MOST_PICKS = 32
CANDIDATES, MOST_SPARE = 4, 32  # candidates for every pick, but at most so many more than picks


@dataclass
class _Rows:
    """A batch of rows and what is eliminated of each."""

    matrix: Tensor  # (g, c, c): A
    of_group: Tensor  # (b,): which A is a row's
    columns: Tensor | None  # (b, n): the columns among which the row picks; None: all of them, in order
    values: Tensor  # (b, n): q
    diagonal: Tensor  # (b, u, k, k): of A
    least: Tensor  # (b, u): a unit with less on its diagonal is spent
    taken: Tensor  # (b, u) bool
    pivots: Tensor  # (b, t, n): V = L^-1 A_S:, L L^T = A_SS; the eliminated A is A - V^T V and never formed
    done: int = 0  # units picked

    @property
    def unit(self) -> int:
        """k, the weights of a unit."""
        return self.diagonal.shape[-1]

    @property
    def past(self) -> Tensor:
        """The pivots so far."""
        return self.pivots[:, : self.done * self.unit]

    def original(self, inside: Tensor) -> Tensor:
        """Places among a row's own columns (b, s) -> columns of the matrix."""
        return inside if self.columns is None else self.columns.gather(1, inside)


def select(
    values: Tensor,
    of_group: Tensor,
    matrix: Tensor,
    unit: int,
    picks: int,
    among: Tensor | None = None,
    *,
    cheapest: bool = False,
) -> tuple[Tensor, Tensor]:
    """Each row's first `picks` units in the order they are picked, and the worth of each then: (b, picks) twice.

    values (b, c), of_group (b,) the row's matrix among matrix (g, c, c) positive definite, among (b, n) the units that
    a row may pick (None: any); `cheapest`: those of least worth are picked, not of most. Pivot rows are extended by
    several units at a time, in one matrix product.
    """
    rows = _start(values, of_group, matrix, unit, picks, among)
    if cheapest:  # a column whose twin was removed has little variance left, and that little counts
        rows.least.zero_()
    order = torch.empty((len(values), picks), dtype=torch.long, device=values.device)
    worths = values.new_empty((len(values), picks))
    while rows.done < picks:
        start = rows.done
        count = min(max(1, int(start * PICKS_PER_PICKED)), MOST_PICKS, picks - start)
        order[:, start : start + count], worths[:, start : start + count] = _pick(rows, count, cheapest)
    return order if among is None else among.gather(1, order), worths


def _start(values: Tensor, of_group: Tensor, matrix: Tensor, unit: int, picks: int, among: Tensor | None) -> _Rows:
    diagonal = diagonal_blocks(matrix, unit)[of_group]  # (b, u, k, k)
    columns = None
    if among is not None:
        columns = columns_of(among, unit)  # (b, n)
        values = values.gather(1, columns)
        diagonal = diagonal.gather(1, among[:, :, None, None].expand(-1, -1, unit, unit))
    return _Rows(
        matrix=matrix,
        of_group=of_group,
        columns=columns,
        values=values.clone(),
        diagonal=diagonal,
        least=LEAST * diagonal.diagonal(dim1=2, dim2=3).amin(2),
        taken=torch.zeros(diagonal.shape[:2], dtype=torch.bool, device=values.device),
        pivots=values.new_empty((len(values), picks * unit, values.shape[1])),
    )


def _pick(rows: _Rows, count: int, cheapest: bool) -> tuple[Tensor, Tensor]:
    """Pick `count` units of every row and eliminate them: their places (b, p) and worths (b, p)."""
    unit, past = rows.unit, rows.past
    candidates = min(CANDIDATES * count, count + MOST_SPARE) if count > 1 else 1
    rank, _ = _rank(rows.values, rows.diagonal, rows.least, rows.taken, cheapest)
    look = rank.topk(min(candidates, rank.shape[1])).indices  # (b, m)
    inside = columns_of(look, unit)  # (b, m k)
    seen = past.gather(2, inside[:, None, :].expand(-1, past.shape[1], -1))  # (b, t, m k)
    block = submatrices(rows.matrix, rows.of_group, rows.original(inside))  # (b, m k, m k)
    block.baddbmm_(seen.transpose(1, 2), seen, alpha=-1)
    place, worth, factor, share = _pick_candidates(
        rows.values.gather(1, inside), block, rows.least.gather(1, look), rows.taken.gather(1, look), count, cheapest
    )
    picked = look.gather(1, place)  # (b, p)
    _eliminate(rows, picked, factor, share)
    return picked, worth


def _eliminate(rows: _Rows, picked: Tensor, factor: Tensor, share: Tensor) -> None:
    """Extend the pivots by the units `picked` (b, p) and bring values and diagonal up to date.

    factor (b, p k, p k): L of their part of the eliminated matrix, share (b, p k): L^-1 q; both with rows of zeros for
    a spent unit.
    """
    unit, past = rows.unit, rows.past
    inside = columns_of(picked, unit)  # (b, p k)
    fresh = gather_rows(rows.matrix, rows.of_group, rows.original(inside))  # (b, p k, c)
    if rows.columns is not None:
        fresh = fresh.gather(2, rows.columns[:, None, :].expand(-1, fresh.shape[1], -1))  # (b, p k, n)
    seen = past.gather(2, inside[:, None, :].expand(-1, past.shape[1], -1))  # (b, t, p k)
    fresh.baddbmm_(seen.transpose(1, 2), past, alpha=-1)
    # L^-1 of the few picked units, applied in one product; for a spent unit it is zero.
    real = factor.diagonal(dim1=1, dim2=2) > 0  # (b, p k)
    identity = torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device)
    factor = torch.where(real[:, :, None], factor, identity)
    inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False) * real[:, :, None]
    fresh = inverse @ fresh
    rows.pivots[:, past.shape[1] : past.shape[1] + fresh.shape[1]] = fresh
    rows.values[:, None].baddbmm_(share[:, None], fresh, alpha=-1)
    rows.diagonal -= _squares(fresh, unit)
    rows.taken.scatter_(1, picked, True)
    rows.done += picked.shape[1]


def _pick_candidates(
    values: Tensor, block: Tensor, least: Tensor, taken: Tensor, count: int, cheapest: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The first `count` of m candidates, each picked and eliminated after those before it.

    values (b, m k), block (b, m k, m k) the candidates' part of the eliminated matrix (changed in place), least and
    taken (b, m). Returns places (b, p), worths (b, p), and factor (b, p k, p k) and share (b, p k) for `_eliminate`.
    """
    unit = values.shape[1] // taken.shape[1]
    taken = taken.clone()
    places, worths, pivots, shares = [], [], [], []
    for _ in range(count):
        rank, spent = _rank(values, diagonal_blocks(block, unit), least, taken, cheapest)
        best, place = rank.max(1)  # (b,)
        inside = columns_of(place[:, None], unit)  # (b, k)
        own_rows = block.gather(1, inside[:, :, None].expand(-1, -1, block.shape[2]))  # (b, k, m k)
        own = own_rows.gather(2, inside[:, None, :].expand(-1, unit, -1))  # (b, k, k)
        real = ~spent.gather(1, place[:, None])[:, :, None]  # (b, 1, 1)
        own = torch.where(real, own, torch.eye(unit, dtype=own.dtype, device=own.device))
        pivot, share = whiten(own, own_rows, values.gather(1, inside)[:, :, None])
        pivot, share = pivot * real, share * real
        values = values - (share * pivot).sum(1)
        block.baddbmm_(pivot.transpose(1, 2), pivot, alpha=-1)
        taken.scatter_(1, place[:, None], True)
        places.append(place)
        worths.append(-best if cheapest else best)
        pivots.append(pivot)
        shares.append(share)
    picked = torch.stack(places, 1)  # (b, p)
    inside = columns_of(picked, unit)[:, None, :].expand(-1, count * unit, -1)  # (b, p k, p k)
    factor = torch.cat(pivots, 1).gather(2, inside).transpose(1, 2)
    return picked, torch.stack(worths, 1), factor, torch.cat(shares, 1)[..., 0]


def _rank(values: Tensor, diagonal: Tensor, least: Tensor, taken: Tensor, cheapest: bool) -> tuple[Tensor, Tensor]:
    """How much each unit is worth as the next pick, (b, u), and which are spent, (b, u) bool: these are worth 0.

    values (b, u k), diagonal (b, u, k, k) of the eliminated matrix, least (b, u), taken (b, u) bool.
    """
    unit = diagonal.shape[-1]
    spent = diagonal.diagonal(dim1=2, dim2=3).amin(2) < least
    if unit == 1:
        worth = values.square() / diagonal[..., 0, 0]
    else:
        columns = values.unflatten(1, (-1, unit))[..., None]  # (b, u, k, 1)
        identity = torch.eye(unit, dtype=values.dtype, device=values.device)
        safe = torch.where((spent | taken)[..., None, None], identity, diagonal)
        worth = (columns * torch.linalg.solve_ex(safe, columns).result).sum((2, 3))
    worth = worth.masked_fill(spent, 0)
    return (-worth if cheapest else worth).masked_fill(taken, -torch.inf), spent


def _squares(pivots: Tensor, unit: int) -> Tensor:
    """The diagonal blocks of V^T V: pivots (b, t, c) -> (b, u, k, k)."""
    if unit == 1:
        return pivots.square().sum(1)[..., None, None]
    by_unit: Tensor = pivots.unflatten(2, (-1, unit)).transpose(1, 2)  # (b, u, t, k)
    return by_unit.transpose(2, 3) @ by_unit
