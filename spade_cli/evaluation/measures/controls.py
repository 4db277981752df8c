"""Controls: maps that know nothing of any network, measured like the methods' (edges of the picture, noise).

What a method does not do better than these says nothing of the network: most methods hardly beat an edge detector where
evidence is a symbol (Casper et al. 2023).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def edges(x: Tensor, seed: int) -> Tensor:
    """Size of the Sobel gradient, summed over the channels: x (1, 3, H, W) -> (H, W). The seed plays no part."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=x.device)
    kernels = torch.stack([across, across.T])[:, None]  # (2, 1, 3, 3)
    padded = F.pad(x.transpose(0, 1), (1, 1, 1, 1), mode="replicate")  # (3, 1, H + 2, W + 2): no edge at the border
    gradient = F.conv2d(padded, kernels.to(x))  # (3, 2, H, W)
    return gradient.square().sum(1).sqrt().sum(0)


def noise(x: Tensor, seed: int) -> Tensor:
    """A uniform number for each pixel of x (1, 3, H, W): (H, W)."""
    return torch.rand(x.shape[-2:], generator=torch.Generator().manual_seed(seed))


CONTROLS: dict[str, Callable[[Tensor, int], Tensor]] = {"edges": edges, "noise": noise}
