"""Random weights are pruned. A baseline: a map that is as good on this trace owes nothing to the pruning."""

import torch
from torch import Tensor

from spade_cli.pruning.solvers.curvature import Hessian
from spade_cli.pruning.solvers.pruner import handles
from spade_cli.pruning.solvers.ranking import without_least


@handles("low_rank")
def random(weight: Tensor, hessian: Hessian, sparsity: float, block: int, *, seed: int = 0) -> Tensor:
    """Remove random weights: weight (g, r, c), sparsity 0 to 1 of the layer -> (g, r, c).

    Exactly round(weights * sparsity) are zero; the same seed draws the same weights of a layer of this shape.
    """
    generator = torch.Generator().manual_seed(seed)
    return without_least(weight, torch.rand(weight.shape, generator=generator).to(weight.device), sparsity)
