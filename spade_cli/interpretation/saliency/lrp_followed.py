"""The share of an output that LRP's rules follow to the image, and what is done with the rest; see `lrp.py`."""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

# Of an output, what is followed to the image. Less is known to 1 % at best, since relevance is summed in float32; more
# than all of it says that a rule makes relevance.
LEAST_SHARE, MOST_SHARE = 1e-4, 1.01


def follow(x: Tensor) -> Tensor:
    """The same values, whose way through the network is followed; outside of `forward_ad.dual_level()` nothing is."""
    try:
        followed: Tensor = forward_ad.make_dual(x, x.detach())
    except RuntimeError:  # no level
        return x
    return followed


def spreadable(followed: Tensor) -> Tensor:
    """The share by which relevance is divided: 1 where it is none, so that a sum that is wrong stays wrong."""
    return torch.where((followed > LEAST_SHARE) & (followed < MOST_SHARE), followed, 1.0)


class ScoreRule(nn.Module):
    """A question's score: each logit's relevance is what it would be if the logit alone were asked about.

    Inside of `forward_ad.dual_level()` the logits' tangents say how much of each is followed to the image; relevance
    is divided by that share, as `lrp.py` does it for one class.
    """

    def __init__(self, call: nn.Module) -> None:
        super().__init__()
        self.call = call

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        logits, followed = forward_ad.unpack_dual(logits)  # (n, classes) each
        if followed is not None:
            spread = logits / spreadable(followed.detach() / logits.detach())
            logits = spread + (logits - spread).detach()
        score: Tensor = self.call(logits)
        return score
