"""Two traces of one network: which weights each kept, and which channels carry the answer in one of them only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.inspection.rank_channels import Neuron, Seen, measure, neuron
from spade_cli.inspection.reopen import Reopened
from spade_cli.pruning.layers import layer_modules

CARRIED = 0.8  # of what a layer's channels add: the fewest that hold it are those that carry the answer


@dataclass(frozen=True)
class Overlap:
    """What two traces kept of one layer."""

    layer: str
    weights: int
    kept: dict[str, int]  # by trace
    both: int  # kept by both

    @property
    def share(self) -> float:
        """Of what either kept, the share that both kept (Jaccard), 0 to 1."""
        either = sum(self.kept.values()) - self.both
        return self.both / either if either else 1.0

    @property
    def chance(self) -> float:
        """The same for two traces that keep as many weights, chosen blindly."""
        p, q = (kept / self.weights for kept in self.kept.values())
        return p * q / (p + q - p * q) if p + q else 1.0


def check_same_network(runs: Mapping[str, Reopened]) -> None:
    """UserError where the layers of two runs are not the same."""
    one, two = ([(layer.name, layer.shape) for layer in run.summary.layers] for run in runs.values())
    if one != two:
        names = " and ".join(run.summary.model.name for run in runs.values())
        raise UserError(f"the runs are of different networks ({names}); give two of the same")


def overlaps(runs: Mapping[str, Reopened]) -> list[Overlap]:
    """Every layer that was pruned in one of the runs at least."""
    pruned = {layer.name for run in runs.values() for layer in run.summary.layers if layer.left is None}
    found = []
    for layer in next(iter(runs.values())).summary.layers:
        if layer.name in pruned:
            kept = {name: _weight(run.trace, layer.name) != 0 for name, run in runs.items()}
            one, two = kept.values()
            counts = {name: int(mask.sum()) for name, mask in kept.items()}
            found.append(Overlap(layer.name, layer.weights, counts, int((one & two).sum())))
    return found


def _weight(network: nn.Module, layer: str) -> Tensor:
    weight = layer_modules(network)[layer].weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def only_one(runs: Mapping[str, Reopened], layers: Sequence[str], top: int) -> dict[str, list[Neuron]]:
    """For each run the channels that carry its answer in its trace and not in the other's, `top` of each layer."""
    added = measure({name: Seen(run.trace, run.x, run.target) for name, run in runs.items()}, layers)
    found: dict[str, list[Neuron]] = {name: [] for name in runs}
    for layer in layers:
        totals = {name: one[layer].reshape(len(one[layer]), -1).sum(1) for name, one in added.items()}
        carry = {name: carriers(total) for name, total in totals.items()}
        for name in runs:
            others = {channel for other in runs if other != name for channel in carry[other]}
            own = [channel for channel in carry[name] if channel not in others]
            found[name] += [neuron(added, layer, channel) for channel in own[:top]]
    return found


def carriers(total: Tensor) -> list[int]:
    """The fewest channels that hold CARRIED of all that is added in favour, (channels,); the largest first."""
    favour = total.clamp(min=0).double()
    if not favour.any():
        return []
    order = favour.argsort(descending=True, stable=True)
    reached = favour[order].cumsum(0) >= CARRIED * favour.sum()
    return order[: int(torch.nonzero(reached)[0]) + 1].tolist()
