"""Forward selection for layers of tens of thousands of columns that few observations reach.

It solves in the space of the observations.

Axes: g groups, r rows of a group, b rows of a batch, c columns, n observations.
"""

import torch
from torch import Tensor

from spade_cli.pruning.solvers.damped_hessian import LowRank

WORK_BYTES = 512 * 2**20  # of the systems of one batch of rows
# Weights that a row picks in a round: at least LEAST, or GROWTH for every one it has. A quarter instead of a tenth
# raises the error by a sixth; a fiftieth lowers it by a tenth and takes four times as long.
LEAST, GROWTH = 1, 0.1


def forward_wide(weight: Tensor, hessian: LowRank, staying: int) -> Tensor:
    """Keep `staying` weights, in every row alike to within one, picked in rounds, with exact refit between them.

    weight (g, r, c), hessian Z^T Z + lambda of the same columns -> (g, r, c). With the support S of a row w and
    u = (lambda + Z_S Z_S^T)^-1 (Z w - Z_S w_S), the best weights on S are w_S + Z_S^T u, and what a weight j outside
    could take off the error is, to first order, lambda^2 (w_j + z_j u)^2 / H_jj: both are one product, Z^T u. (The
    normal equations of the support by the identity Z_S^T (lambda + Z_S Z_S^T)^-1 = (lambda + Z_S^T Z_S)^-1 Z_S^T.)
    """
    groups, rows, columns = weight.shape
    every_row, more = divmod(staying, groups * rows)
    observations = hessian.inputs.shape[1]
    batch = max(1, WORK_BYTES // (8 * 3 * observations**2 + 4 * 6 * columns))
    result = torch.zeros_like(weight)
    for group in range(groups):
        for start in range(0, rows, batch):
            part = slice(start, start + batch)
            first = group * rows + start
            extra = torch.arange(first, first + len(weight[group, part]), device=weight.device) < more  # (b,)
            result[group, part] = _pick_and_fit(
                weight[group, part], hessian.inputs[group], hessian.damping[group], every_row, extra
            )
    return result


def _pick_and_fit(weight: Tensor, inputs: Tensor, damping: Tensor, picks: int, extra: Tensor) -> Tensor:
    """weight (b, c), inputs Z (n, c) -> (b, c): `picks` weights of each row, one more where `extra` (b,) says so."""
    rows, columns = weight.shape
    most = picks + int(extra.any())
    norms = inputs.square().sum(0) + damping  # (c,): H_jj
    # float64: the damping is small beside sums over thousands of columns, and float32 would round it away.
    by_column = inputs.T.double().contiguous()  # (c, n)
    system = torch.diag_embed(damping.double().expand(rows, len(inputs)))  # (b, n, n)
    exact = weight.double()
    unexplained = exact @ by_column  # (b, n): Z w - Z_S w_S
    taken = torch.zeros((rows, columns), dtype=torch.bool, device=weight.device)
    done = 0
    fitted = weight + (unexplained / damping).to(inputs.dtype) @ inputs  # (b, c)
    while done < most:
        # The last pick is a round of its own: only some rows make it.
        count = min(max(LEAST, int(GROWTH * done)), picks - done) if done < picks else 1
        best = (fitted.square() / norms).masked_fill_(taken, -1).topk(count).indices  # (b, p)
        chosen = by_column[best] if done < picks else by_column[best] * extra[:, None, None]  # (b, p, n)
        system += chosen.transpose(1, 2) @ chosen
        unexplained -= torch.einsum("bp,bpn->bn", exact.gather(1, best), chosen)
        mark = torch.ones_like(best, dtype=torch.bool) if done < picks else extra[:, None]
        taken.scatter_(1, best, mark)
        solution = torch.cholesky_solve(unexplained[..., None], torch.linalg.cholesky(system))[..., 0]  # (b, n): u
        fitted = weight + solution.to(inputs.dtype) @ inputs
        done += count
    return torch.where(taken, fitted, torch.zeros_like(fitted))
