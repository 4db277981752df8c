"""Single deletion on a grid: does a part's relevance rank it as what the network loses without it does?

The score of Hesse et al. 2024 (arXiv 2407.11910), without their fine-tuning on pictures with deleted parts. n: maps;
H, W: a map's size; g: cells of the grid a side.
"""

import torch
from torch import Tensor, nn

from spade_cli.evaluation.measures.sanity import rank_correlation

GRID = 4  # cells a side, as in the paper


@torch.no_grad()
def find_drops(network: nn.Module, x: Tensor, target: int, grid: int = GRID) -> Tensor:
    """How much the target's logit falls when one cell of x (1, 3, H, W) gets the mean colour: (g, g), on the CPU."""
    cells = number_cells(x.shape[-2], x.shape[-1], grid).to(x.device)  # (H, W)
    kept = torch.stack([cells != cell for cell in range(grid * grid)])  # (g g, H, W)
    outputs: Tensor = network(torch.cat([x, x * kept[:, None]]))[:, target].double().cpu()  # (1 + g g,)
    return (outputs[0] - outputs[1:]).view(grid, grid)


def single_deletion(relevance: Tensor, drops: Tensor) -> Tensor:
    """Spearman's correlation of the relevance in each cell with the drops (g, g): (n,) float64, -1 to 1.

    relevance: (n, H, W). 0 where every cell has the same relevance or the same drop.
    """
    grid = len(drops)
    cells = number_cells(relevance.shape[-2], relevance.shape[-1], grid)  # (H, W)
    sums = torch.stack([relevance.cpu().double()[:, cells == cell].sum(1) for cell in range(grid * grid)], 1)
    return rank_correlation(sums.view(-1, grid, grid), drops.expand(len(relevance), grid, grid))


def number_cells(height: int, width: int, grid: int) -> Tensor:
    """The number of each pixel's cell, row by row from 0: int64 (H, W)."""
    down, across = (torch.arange(side) * grid // side for side in (height, width))
    return down[:, None] * grid + across
