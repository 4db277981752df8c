"""Forward selection: choose the few weights that stay, instead of removing the many that go.

Each row chooses some more units than will stay (`selection`, or `splitting` where many stay). Then the units that cost
least are given up, over the whole layer, as OBS would (`surplus`). What stays is refitted exactly.
Axes: n images, g groups, r rows of a group, b rows of all groups, c columns, k weights of a unit (a kernel, or one
weight), u units of a row, s units of a row's support.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.pruning.solvers.damped_hessian import Hessian, LowRank
from spade_cli.pruning.solvers.elimination import WORK_BYTES, refit, spend
from spade_cli.pruning.solvers.obs import obs
from spade_cli.pruning.solvers.pruner import handles
from spade_cli.pruning.solvers.selection import select
from spade_cli.pruning.solvers.splitting import split
from spade_cli.pruning.solvers.surplus import Layer, exchange, thin
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
# Choosing s units one after the other costs s^2 c, splitting c^2: from these ratios of s^2 to c on rows are split. The
# two are estimates from few timings (SqueezeNet's layers, 512 x 4608), not break-even points.
SPLIT_FROM, SPLIT_WIDE_FROM = 3, 6
SURE_FROM = 1024  # columns from which splitting chooses no surplus: giving it back takes longer than all the rest
# Rounds of exchange. One lowers the error on SqueezeNet's layers by 0.4 to 0.8 %, for about eight tenths of the time of
# all the rest at 0.9.
ROUNDS, EXCHANGED_UP_TO = 1, 640  # columns
SHARED = 2 / 3  # of what stays at one share may stay at another that takes over its order of removal: errors + 0.2 %


def forward_ladder(
    weight: Tensor,
    hessian: Hessian,
    shares: Sequence[float],
    block: int,
    *,
    granularity: str = "weight",
    budget: str = "layer",
) -> list[Tensor]:
    """`forward` at each of these shares, in their order: what is chosen for the lowest serves the others.

    Choices are nested: the first units that a row chose for a low share are those that it chooses for a higher one.
    """
    if granularity not in ("kernel", "weight"):
        raise UserError(f"pruner.granularity={granularity} is unknown: choose kernel or weight")
    if budget not in ("layer", "row"):
        raise UserError(f"pruner.budget={budget} is unknown: choose layer or row")
    unit = block if granularity == "kernel" else 1
    if isinstance(hessian, LowRank) and unit > 1:
        hessian = hessian.dense()
    images = weight[None] if weight.dim() == 3 else weight  # (n, g, r, c)
    units = images[0].numel() // unit
    staying = [units - round(units * share) for share in shares]
    found = {0: torch.zeros_like(weight), units: weight}
    todo = sorted({stay for stay in staying if stay not in found}, reverse=True)
    if isinstance(hessian, LowRank):
        found |= {stay: forward_wide(weight, hessian, stay) for stay in todo}
    elif todo:
        solved = _solve_images(images, hessian.view(len(images), -1, *hessian.shape[-2:]), todo, unit, budget)
        found |= {stay: pruned.view_as(weight) for stay, pruned in solved.items()}
    return [found[stay].clone() for stay in staying]


@handles("low_rank", "stacked", ladder=forward_ladder)
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
    return forward_ladder(weight, hessian, [sparsity], block, granularity=granularity, budget=budget)[0]


def _solve_images(weight: Tensor, hessian: Tensor, staying: Sequence[int], unit: int, budget: str) -> dict[int, Tensor]:
    """weight (n, g, r, c), hessian (n, g, c, c), how many units stay (largest first) -> (n, g, r, c) for each."""
    in_a_row = weight.shape[3] // unit
    rows = weight[0].numel() // weight.shape[3]
    # Of a row.
    picks = {stay: min(in_a_row, math.ceil(stay / rows * (1 + SURPLUS)) + LEAST_SURPLUS) for stay in staying}
    backward = [stay for stay in staying if picks[stay] >= BACKWARD_FROM * in_a_row and budget == "layer"]
    found = {
        stay: torch.stack(
            [_remove_units(*one, unit, rows * in_a_row - stay) for one in zip(weight, hessian, strict=True)]
        )
        for stay in backward
    }
    rest = [stay for stay in staying if stay not in found]
    layers = [Layer.of(*one, unit) for one in zip(weight, hessian, strict=True)]
    fitted: dict[int, list[Tensor]] = {stay: [] for stay in rest}  # (g, r, c) of each image
    enough = SPLIT_FROM if in_a_row < SURE_FROM else SPLIT_WIDE_FROM
    splits = [stay for stay in rest if unit == 1 and budget == "layer" and picks[stay] ** 2 >= enough * in_a_row]
    if splits and in_a_row >= SURE_FROM:
        for stay, (masks, _) in zip(splits, split(weight, hessian, splits), strict=True):
            fitted[stay] = [layer.fit(mask) for layer, mask in zip(layers, masks.flatten(1, 2), strict=True)]
        rest = rest[len(splits) :]
    groups = _share_orders(rest)
    by_split = [group for group in groups if group[0] in splits]
    selects = groups[len(by_split) :]
    for group, supports in _split_supports(weight, hessian, by_split):
        _thin_images(layers, supports, group, fitted, budget, limited=False)
    if selects:
        # The rows of all images choose as one batch; each image spends its own budget.
        order = choose_supports(weight.flatten(0, 1), hessian.flatten(0, 1), unit, picks[selects[0][0]])
        for group in selects:
            prefix = order[:, : picks[group[0]]].unflatten(0, (len(weight), rows))  # (n, b, s)
            counts = torch.full((rows,), picks[group[0]], device=weight.device)
            _thin_images(layers, [(units, counts) for units in prefix], group, fitted, budget)
    return found | {stay: torch.stack(images).to(weight.dtype) for stay, images in fitted.items()}


Supports = Sequence[tuple[Tensor, Tensor]]  # of each image: units (b, s), the best first, and how many of them (b,)


def _split_supports(
    weight: Tensor, hessian: Tensor, groups: Sequence[Sequence[int]]
) -> Iterator[tuple[Sequence[int], Supports]]:
    """Rows choose by `splitting`, as many as each needs, a quarter more than stay of the first of each group."""
    most = weight[0].numel()
    budgets = [min(most, round(group[0] * (1 + SURPLUS))) for group in groups]
    for group, (masks, worth) in zip(groups, split(weight, hessian, budgets) if groups else (), strict=True):
        counts = masks.flatten(1, 2).sum(2)  # (n, b)
        ranked = worth.masked_fill(masks, torch.inf).flatten(1, 2).topk(int(counts.max()), dim=2).indices
        yield group, list(zip(ranked, counts, strict=True))


def _thin_images(
    layers: Sequence[Layer],
    supports: Supports,
    staying: Sequence[int],
    fitted: dict[int, list[Tensor]],
    budget: str,
    *,
    limited: bool = True,
) -> None:
    """Thin each image's supports to each number that stays; add the best weights then, (g, r, c), to `fitted`.

    `limited`: every row chose equally many, whatever it needs.
    """
    for layer, (units, counts) in zip(layers, supports, strict=True):
        single = layer.unit == 1 and budget == "layer"
        rounds = ROUNDS if layer.exact.shape[2] <= EXCHANGED_UP_TO else 0
        for stay, mask in zip(staying, thin(layer, units, counts, staying, budget), strict=True):
            fitted[stay].append(
                exchange(layer, mask, counts if limited else None, rounds) if single else layer.fit(mask)
            )


def _share_orders(staying: Sequence[int]) -> list[list[int]]:
    """Which of these numbers (largest first) take over the order of removal of the first of their group."""
    groups: list[list[int]] = []
    for stay in staying:
        if groups and stay >= SHARED * groups[-1][0]:
            groups[-1].append(stay)
        else:
            groups.append([stay])
    return groups


def _remove_units(weight: Tensor, hessian: Tensor, unit: int, removed: int) -> Tensor:
    """Remove `removed` units where most stay: exact OBS up to EXACT_UP_TO columns, several units at a time beyond."""
    if weight.shape[2] <= EXACT_UP_TO:
        return obs(weight, hessian, removed / (weight.numel() // unit), unit)
    return _remove_few(weight, hessian, unit, removed)


def choose_supports(weight: Tensor, hessian: Tensor, unit: int, picks: int) -> Tensor:
    """The units that each row chooses, the best first: weight (g, r, c), hessian (g, c, c) -> (b, picks)."""
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
    return order


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
    return torch.stack([refit(*one) for one in zip(exact, hessian, kept, strict=True)]).to(weight.dtype)


def _spread_units(kept: Tensor, unit: int) -> Tensor:
    """Units (b, u) -> their columns (b, u k)."""
    return kept.repeat_interleave(unit, dim=1)
