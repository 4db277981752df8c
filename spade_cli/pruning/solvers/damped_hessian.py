"""What solvers get: a layer's Hessian H = 2/n X X^T, as a matrix, or as the few observations that it is made of.

Axes as in layers.py: g groups, r rows, c columns, n observations.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spade_cli.errors import SpadeError, UserError

DAMPING_STEP = 10.0  # a failed factorisation is tried again with so many times the damping
DAMPING_LEAST = 1e-8  # the first attempt after none: the rounding of float32
DAMPING_MOST = 1e3  # with more the Hessian would be its own diagonal, and something else is wrong
MOST_DENSE = 16_384  # columns: float64 copies for a solver, three of them, take 6.4 GB


@dataclass(frozen=True)
class LowRank:
    """H = Z^T Z + diag(damping) of a layer so wide that few observations reach it; H itself is never formed.

    inputs: Z (g, n, c), the observations times sqrt(2 / n); damping: (g,).
    """

    inputs: Tensor
    damping: Tensor

    @property
    def device(self) -> torch.device:
        """Where the observations are."""
        return self.inputs.device

    def to(self, device: torch.device) -> "LowRank":
        """The same on another device."""
        return LowRank(self.inputs.to(device), self.damping.to(device))

    def diagonal(self, dim1: int = 1, dim2: int = 2) -> Tensor:
        """(g, c); the arguments are those of `Tensor.diagonal`."""
        return self.inputs.square().sum(1) + self.damping[:, None]

    def dense(self) -> Tensor:
        """(g, c, c). Raises UserError where it would fill the memory."""
        columns = self.inputs.shape[2]
        if columns > MOST_DENSE:
            raise UserError(
                f"this pruner needs the whole Hessian of its {columns} columns, {4e-9 * columns**2:.1f} GB and several "
                "times that to solve; choose pruner=forward, which does without, or leave the layer out "
                "(schedule.layers={NAME: 0})"
            )
        return self.inputs.transpose(1, 2) @ self.inputs + torch.diag_embed(self.damping[:, None].expand(-1, columns))


Hessian = Tensor | LowRank


def multiply(matrix: Tensor, hessian: Hessian) -> Tensor:
    """matrix (g, r, c) times H -> (g, r, c)."""
    if isinstance(hessian, LowRank):
        return (matrix @ hessian.inputs.transpose(1, 2)) @ hessian.inputs + hessian.damping[:, None, None] * matrix
    return matrix @ hessian


def damp(hessian: Hessian, damping: float) -> tuple[Hessian, float]:
    """Add `damping` x mean diagonal to each group's diagonal, ten times more until every group has a Cholesky factor.

    hessian (g, c, c) -> the positive definite (g, c, c) and the damping that was needed, relative to the mean diagonal
    of the group (of all groups, for one that saw only zeros). Raises SpadeError where nothing helps: infinite or NaN
    entries.
    """
    if not torch.isfinite(hessian.inputs if isinstance(hessian, LowRank) else hessian).all():
        raise SpadeError("its inputs hold infinite or NaN values, so it has no Hessian; check the network's weights")
    mean = hessian.diagonal(dim1=1, dim2=2).mean(1)  # (g,)
    mean = torch.where(mean > 0, mean, mean.mean())
    if isinstance(hessian, LowRank):
        used = max(damping, DAMPING_LEAST)  # any is enough: Z^T Z has no negative eigenvalue
        return replace(hessian, damping=used * mean), used
    amount = damping
    while amount <= max(damping, DAMPING_MOST):
        damped = hessian.clone()
        damped.diagonal(dim1=1, dim2=2).add_(amount * mean[:, None])
        # float64, in which solvers factorise: float32 would let rounding pass for a positive eigenvalue.
        if not torch.linalg.cholesky_ex(damped.double()).info.any():
            return damped, amount
        amount = max(amount * DAMPING_STEP, DAMPING_LEAST)
    raise SpadeError(f"its Hessian has no Cholesky factor even with damping {max(damping, DAMPING_MOST):g}")


def relative_error(weight: Tensor, pruned: Tensor, hessian: Hessian) -> float:
    """||W' X - W X||^2 / ||W X||^2 of one layer from its (undamped) Hessian; 0 where both are 0.

    weight, pruned (g, r, c), hessian (g, c, c).
    """
    change = pruned - weight
    lost = (multiply(change, hessian) * change).double().sum()
    total = (multiply(weight, hessian) * weight).double().sum()
    return float(lost / total) if float(total) > 0 else 0.0
