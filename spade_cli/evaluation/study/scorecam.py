"""Score-CAM: where a class's evidence lies, without gradients (Wang et al. 2020); the human study's patches.

k: channels of the last feature map; h, w: its size; H, W: the picture's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spade_cli.interpretation import CannotExplain, Explainable


@torch.no_grad()
def score_cam(network: Explainable, x: Tensor, target: int, batch_size: int = 32) -> Tensor:
    """The map (H, W), not negative, of one class for one picture x (1, 3, H, W).

    Each channel of the last feature map, enlarged and stretched to [0, 1], uncovers a part of the picture; a channel
    counts with the softmax, over the channels, of what the network then says for the class (equations 1 and 2). Raises
    CannotExplain where the network has no spatial feature map.
    """
    if network.feature_map is None:
        raise CannotExplain("Score-CAM needs a spatial feature map before the classifier, and this network has none")
    maps = F.interpolate(_feature_map(network, x), x.shape[-2:], mode="bilinear", align_corners=False)[0]  # (k, H, W)
    flat = maps.flatten(1)
    low, high = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    live = (high > low).flatten()  # a channel that is the same everywhere uncovers nothing in particular
    maps, low, high = maps[live], low[live], high[live]
    if not len(maps):
        return x.new_zeros(x.shape[-2:]).cpu()
    covers = (maps - low) / (high - low)  # (k, H, W) in [0, 1]
    scores = torch.cat([network.model(x * part[:, None])[:, target] for part in covers.split(batch_size)])  # (k,)
    return (scores.softmax(0)[:, None, None] * maps).sum(0).clamp(min=0).cpu()


def _feature_map(network: Explainable, x: Tensor) -> Tensor:
    """The last feature map (1, k, h, w)."""
    seen: list[Tensor] = []
    module: nn.Module = network.model.get_submodule(network.feature_map or "")
    handle = module.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    try:
        network.model(x)
    finally:
        handle.remove()
    return seen[-1]
