"""Magnitude: the smallest weights go, whatever the samples say. A baseline: what remains is not adjusted."""

from torch import Tensor

from spade_cli.pruning.solvers.curvature import Hessian
from spade_cli.pruning.solvers.pruner import handles
from spade_cli.pruning.solvers.ranking import without_least


@handles("low_rank")
def magnitude(weight: Tensor, hessian: Hessian, sparsity: float, block: int) -> Tensor:
    """Remove the weights of least absolute value: weight (g, r, c), sparsity 0 to 1 of the layer -> (g, r, c).

    Exactly round(weights * sparsity) are zero. The Hessian and the kernels' width are not looked at.
    """
    return without_least(weight, weight.abs(), sparsity)
