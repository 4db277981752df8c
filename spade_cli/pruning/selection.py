"""Forward selection: each row takes the units that explain most of its output, one after the other.

Orthogonal least squares in the metric of the Hessian (Chen, Cowan and Grant 1991), for all rows at once.
Axes: g groups, b rows of all groups, c columns, k weights of a unit (a kernel, or one weight), u units of a row, t
columns chosen so far, m candidate units, p units picked between two whole updates.
"""

import torch
from torch import Tensor

from spade_cli.pruning.elimination import columns_of, diagonal_blocks, rows_of, submatrices, whitened

LEAST = 1e-6  # of its first curvature: a unit with less left is a combination of chosen ones and adds nothing
# Units picked between two whole updates: the candidates are exact among themselves; what they can miss is a unit that
# was worth little before these picks, and the more are chosen already, the less a pick changes. On SqueezeNet's layers
# no error grew by more than 0.2 %.
PICKS_PER_CHOSEN = 1 / 8
MOST_PICKS = 32
CANDIDATES, MOST_SPARE = 4, 32  # for every pick; but no more than so many beyond the picks


def choose(
    weight: Tensor, of_group: Tensor, hessian: Tensor, unit: int, picks: int, among: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Each row's first `picks` units in the order they are chosen, and what each gains: (b, picks) twice.

    weight (b, c), of_group (b,) the row's Hessian among hessian (g, c, c), among (b, n) the units that a row may choose
    (None: any). With the chosen columns S eliminated, a unit P has the correlation q_P with what is still unexplained
    and the curvature D_P; choosing it gains q_P D_P^-1 q_P. The eliminated Hessian is never formed: the scaled pivot
    rows V = L^-1 H_S: (L L^T = H_SS) are kept, and a row of it is the first one minus V_P^T V. They are extended by
    several units at a time, in one matrix product.
    """
    # The rows come group by group, so the parts are in order.
    correlation = torch.cat([weight[of_group == g] @ hessian[g] for g in of_group.unique()])  # (b, c)
    curvature = diagonal_blocks(hessian, unit)[of_group]  # (b, u, k, k): of each unit, the chosen ones eliminated
    columns = None if among is None else columns_of(among, unit)  # (b, n k)
    if among is not None and columns is not None:
        correlation = correlation.gather(1, columns)
        curvature = curvature.gather(1, among[:, :, None, None].expand(-1, -1, unit, unit))
    least = LEAST * curvature.diagonal(dim1=2, dim2=3).amin(2)  # (b, u)
    rows, units = least.shape
    pivots = weight.new_empty((rows, picks * unit, units * unit))  # (b, t, c)
    order = torch.empty((rows, picks), dtype=torch.long, device=weight.device)
    gain = weight.new_empty((rows, picks))
    taken = torch.zeros((rows, units), dtype=torch.bool, device=weight.device)
    done = 0
    while done < picks:
        count = min(max(1, int(done * PICKS_PER_CHOSEN)), MOST_PICKS, picks - done)
        past = pivots[:, : done * unit]  # (b, t, c)
        worth = gains(correlation, curvature, least, taken)  # (b, u)
        candidates = min(CANDIDATES * count, count + MOST_SPARE) if count > 1 else 1
        look = worth.topk(min(candidates, units)).indices  # (b, m)
        inside = columns_of(look, unit)  # (b, m k)
        seen = past.gather(2, inside[:, None, :].expand(-1, past.shape[1], -1))  # (b, t, m k)
        there = inside if columns is None else columns.gather(1, inside)
        block = submatrices(hessian, of_group, there)  # (b, m k, m k)
        block.baddbmm_(seen.transpose(1, 2), seen, alpha=-1)
        place, gain[:, done : done + count], triangle, share = _pick(
            correlation.gather(1, inside), block, least.gather(1, look), taken.gather(1, look), count
        )
        chosen = look.gather(1, place)  # (b, p)
        order[:, done : done + count] = chosen
        taken.scatter_(1, chosen, True)
        inside = columns_of(chosen, unit)  # (b, p k)
        seen = past.gather(2, inside[:, None, :].expand(-1, past.shape[1], -1))  # (b, t, p k)
        there = inside if columns is None else columns.gather(1, inside)
        fresh = rows_of(hessian, of_group, there)  # (b, p k, c)
        if columns is not None:
            fresh = fresh.gather(2, columns[:, None, :].expand(-1, fresh.shape[1], -1))
        fresh.baddbmm_(seen.transpose(1, 2), past, alpha=-1)
        # L^-1 of the few picked units, applied in one product; where there was no curvature left it is zero.
        real = triangle.diagonal(dim1=1, dim2=2) > 0  # (b, p k)
        identity = torch.eye(count * unit, dtype=triangle.dtype, device=triangle.device)
        triangle = torch.where(real[:, :, None], triangle, identity)
        inverse = torch.linalg.solve_triangular(triangle, identity.expand_as(triangle), upper=False) * real[:, :, None]
        fresh = inverse @ fresh
        pivots[:, done * unit : (done + count) * unit] = fresh
        correlation[:, None].baddbmm_(share[:, None], fresh, alpha=-1)
        curvature -= _squares(fresh, unit)
        done += count
    return order if among is None else among.gather(1, order), gain


def _pick(
    correlation: Tensor, block: Tensor, least: Tensor, taken: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best `count` of m candidates, each given those before it.

    correlation (b, m k), block (b, m k, m k) the candidates' part of the eliminated Hessian, least and taken (b, m).
    Returns places (b, p), gains (b, p), L (b, p k, p k) with L L^T the part of the picked, and L^-1 q (b, p k); rows of
    zeros where a unit had no curvature left.
    """
    unit = correlation.shape[1] // taken.shape[1]
    places: list[Tensor] = []
    worths: list[Tensor] = []
    pivots: list[Tensor] = []
    shares: list[Tensor] = []
    taken = taken.clone()
    for _ in range(count):
        worth, place = gains(correlation, diagonal_blocks(block, unit), least, taken).max(1)  # (b,)
        inside = columns_of(place[:, None], unit)  # (b, k)
        rows = block.gather(1, inside[:, :, None].expand(-1, -1, block.shape[2]))  # (b, k, m k)
        own = rows.gather(2, inside[:, None, :].expand(-1, unit, -1))  # (b, k, k)
        real = (worth > 0)[:, None, None]
        own = torch.where(real, own, torch.eye(unit, dtype=own.dtype, device=own.device))
        pivot, share = whitened(own, rows, correlation.gather(1, inside)[:, :, None])
        pivot, share = pivot * real, share * real
        correlation = correlation - (share * pivot).sum(1)
        block.baddbmm_(pivot.transpose(1, 2), pivot, alpha=-1)  # ours to change
        taken.scatter_(1, place[:, None], True)
        for found, one in zip((places, worths, pivots, shares), (place, worth, pivot, share), strict=True):
            found.append(one)
    picked = torch.stack(places, 1)  # (b, p)
    inside = columns_of(picked, unit)[:, None, :].expand(-1, count * unit, -1)  # (b, p k, p k)
    triangle = torch.cat(pivots, 1).gather(2, inside).transpose(1, 2)
    return picked, torch.stack(worths, 1), triangle, torch.cat(shares, 1)[..., 0]


def gains(correlation: Tensor, curvature: Tensor, least: Tensor, taken: Tensor) -> Tensor:
    """What each unit would gain, (b, u): q_P D_P^-1 q_P; 0 for a spent unit, -1 for a taken one.

    correlation (b, u k), curvature (b, u, k, k), least (b, u): below it a unit is spent, taken (b, u) bool.
    """
    unit = curvature.shape[-1]
    spent = taken | (curvature.diagonal(dim1=2, dim2=3).amin(2) < least)
    if unit == 1:
        worth = correlation.square() / curvature[..., 0, 0]
    else:
        values = correlation.unflatten(1, (-1, unit))[..., None]  # (b, u, k, 1)
        identity = torch.eye(unit, dtype=values.dtype, device=values.device)
        safe = torch.where(spent[..., None, None], identity, curvature)
        worth = (values * torch.linalg.solve_ex(safe, values).result).sum((2, 3))
    return worth.masked_fill(spent, 0).masked_fill(taken, -1)


def _squares(pivots: Tensor, unit: int) -> Tensor:
    """The diagonal blocks of V^T V: pivots (b, t, c) -> (b, u, k, k)."""
    if unit == 1:
        return pivots.square().sum(1)[..., None, None]
    by_unit = pivots.unflatten(2, (-1, unit)).transpose(1, 2)  # (b, u, t, k)
    return by_unit.transpose(2, 3) @ by_unit
