"""Two traces of one network: which weights each kept, and which channels carry the answer in one of them only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.inspection.rank_channels import make_neuron
from spade_cli.inspection.reopen import OpenRun
from spade_cli.interpretation.contribution import contributions
from spade_cli.pruning.layers import layer_modules
from spade_cli.report.channel_pages import Neuron, Overlap

CARRIED = 0.8  # of what a layer's channels add: the fewest that hold it are those that carry the answer


def check_same_network(runs: Mapping[str, OpenRun]) -> None:
    """UserError where the layers of two runs are not the same."""
    one, two = ([(layer.name, layer.shape) for layer in run.summary.layers] for run in runs.values())
    if one != two:
        names = " and ".join(run.summary.model.name for run in runs.values())
        raise UserError(f"the runs are of different networks ({names}); give two of the same")


def measure_overlaps(runs: Mapping[str, OpenRun]) -> list[Overlap]:
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


def find_own_channels(runs: Mapping[str, OpenRun], layers: Sequence[str], top: int) -> dict[str, list[Neuron]]:
    """For each run the channels that carry its answer in its trace and not in the other's, `top` of each layer."""
    sums = {name: contributions(run.trace, run.x, run.question, layers) for name, run in runs.items()}
    found: dict[str, list[Neuron]] = {name: [] for name in runs}
    for layer in layers:
        totals = {name: one[layer].reshape(len(one[layer]), -1).sum(1) for name, one in sums.items()}
        carry = {name: find_carriers(total) for name, total in totals.items()}
        for name in runs:
            others = {channel for other in runs if other != name for channel in carry[other]}
            own = [channel for channel in carry[name] if channel not in others]
            found[name] += [make_neuron(sums, layer, channel) for channel in own[:top]]
    return found


def find_carriers(total: Tensor) -> list[int]:
    """The fewest channels that hold CARRIED of all that is added in favour, (channels,); the largest first."""
    favour = total.clamp(min=0).double()
    if not favour.any():
        return []
    order = favour.argsort(descending=True, stable=True)
    reached = favour[order].cumsum(0) >= CARRIED * favour.sum()
    return order[: int(torch.nonzero(reached)[0]) + 1].tolist()
