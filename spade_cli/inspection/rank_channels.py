"""The channels that carry a prediction in the trace, ranked by layer, beside what they do in the dense network."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.inspection.reopen import Reopened
from spade_cli.interpretation import Channel, visualize
from spade_cli.interpretation.contribution import called_layers, contributions
from spade_cli.models import Preprocessing
from spade_cli.progress import Stages

LAYERS = 4  # shown if none is named: the last pruned ones, whose channels mean the most to people
TOGETHER = 8  # visualizations in one batch: what a laptop's memory holds at 224 pixels


@dataclass(frozen=True)
class Seen:
    """A network, what it is shown (1, 3, H, W), and the answer that is asked about."""

    network: nn.Module
    x: Tensor
    target: int


@dataclass
class Neuron:
    """One channel of a layer in several networks, by their names."""

    layer: str
    channel: int
    share: dict[str, float]  # of what the layer's channels add to the answer, those against it left out
    rank: dict[str, int]  # among the layer's channels, 1 is the one that adds most
    where: dict[str, Tensor]  # what it adds at each place: (height, width), or a single value (1, 1)
    pictures: dict[str, Tensor] = field(default_factory=dict)  # visualizations (3, size, size) in [0, 1]

    @property
    def name(self) -> str:
        """As `interpreter.targets` has it."""
        return f"{self.layer}:{self.channel}"


def choose_layers(run: Reopened, patterns: Sequence[str]) -> list[str]:
    """The layers to look into, in the network's order: those the patterns name, else the last pruned ones.

    Layers that the network uses without calling them, as attention does, have no outputs to be seen: none is chosen.
    Errors: UserError for a pattern that matches no layer, or none whose output can be seen.
    """
    seen = called_layers(run.classifier.model, run.x)
    known = [layer for layer in run.summary.layers if layer.name in seen]
    if not patterns:
        pruned = [layer for layer in known if layer.left is None]
        return [layer.name for layer in (pruned or known)[-LAYERS:]]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in run.summary.layers):
            raise UserError(f"layers={pattern} matches no layer; spade layers lists them")
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in known):
            raise UserError(
                f"layers={pattern} matches only layers that the network never calls as modules (attention's "
                "projections), whose channels cannot be seen; name others"
            )
    return [one.name for one in known if any(fnmatch.fnmatchcase(one.name, pattern) for pattern in patterns)]


def measure(networks: Mapping[str, Seen], layers: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """What each channel of the layers adds to the answer, by network: `interpretation.contribution`'s sums."""
    return {name: contributions(seen.network, seen.x, seen.target, layers) for name, seen in networks.items()}


def rank(run: Reopened, layers: Sequence[str], top: int) -> list[Neuron]:
    """The `top` channels of each layer that add most to the answer in the trace, none that adds nothing."""
    added = measure({name: Seen(network, run.x, run.target) for name, network in run.networks.items()}, layers)
    chosen = []
    for layer in layers:
        total = _totals(added["trace"][layer])
        best = total.argsort(descending=True, stable=True)[:top].tolist()
        chosen += [neuron(added, layer, channel) for channel in best if total[channel] > 0]
    return chosen


def neuron(added: Mapping[str, Mapping[str, Tensor]], layer: str, channel: int) -> Neuron:
    """One channel, from what `measure` found of every network."""
    totals = {name: _totals(by_layer[layer]) for name, by_layer in added.items()}
    return Neuron(
        layer,
        channel,
        {name: _share(total, channel) for name, total in totals.items()},
        {name: int((total > total[channel]).sum()) + 1 for name, total in totals.items()},
        {name: _as_map(by_layer[layer][channel]) for name, by_layer in added.items()},
    )


def _totals(added: Tensor) -> Tensor:
    """(channels, ...) -> (channels,)."""
    return added.reshape(len(added), -1).sum(1)


def _share(total: Tensor, channel: int) -> float:
    """Of the sum of what is added in favour, (channels,); negative for a channel that speaks against the answer."""
    return float(total[channel] / total.clamp(min=0).sum().clamp(min=torch.finfo(total.dtype).tiny))


def _as_map(added: Tensor) -> Tensor:
    """What one channel adds, as (height, width): tokens have no places that we know of, and a vector has none."""
    return added if added.dim() == 2 else added.sum().view(1, 1)


def draw(
    networks: Mapping[str, nn.Module],
    neurons: Sequence[Neuron],
    own: Preprocessing,
    steps: int,
    seed: int,
    stages: Stages,
) -> None:
    """Visualize every neuron on every network, from the same noise, and put the pictures in."""
    batches = [neurons[start : start + TOGETHER] for start in range(0, len(neurons), TOGETHER)]
    with stages.stage("visualization", total=len(batches) * steps * len(networks)) as advance:
        for name, network in networks.items():
            for batch in batches:
                pictures = visualize(
                    network,
                    [Channel(one.layer, one.channel) for one in batch],
                    size=own.size,
                    mean=own.mean,
                    std=own.std,
                    steps=steps,
                    seed=seed,
                    on_step=lambda step, steps: advance(1),
                )
                for one, picture in zip(batch, pictures, strict=True):
                    one.pictures[name] = picture
