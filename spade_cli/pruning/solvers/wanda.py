"""Wanda: the weights with the smallest product of size and input go (Sun et al. 2024, arXiv 2306.11695). A baseline."""

from torch import Tensor

from spade_cli.pruning.solvers.curvature import Hessian
from spade_cli.pruning.solvers.pruner import handles
from spade_cli.pruning.solvers.ranking import without_least


@handles("low_rank")
def wanda(weight: Tensor, hessian: Hessian, sparsity: float, block: int) -> Tensor:
    """Remove the weights of least |w_j| ||X_j|| in each row: weight (g, r, c), hessian (g, c, c) -> (g, r, c).

    ||X_j||^2 is, up to one factor, the Hessian's diagonal. Each row loses floor(c * sparsity) weights, as in the paper
    (equation 1); what the layer's exact count asks for beyond that, at most one more a row, goes where the score is
    least. What remains is not
    adjusted.
    """
    score = weight.abs() * hessian.diagonal(dim1=1, dim2=2).sqrt()[:, None, :]
    return without_least(weight, score, sparsity, by_row=True)
