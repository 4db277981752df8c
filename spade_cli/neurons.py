"""The channels that carry a prediction in the trace, ranked by layer, beside what they do in the dense network."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.interpretation import Channel, visualize
from spade_cli.interpretation.contribution import contributions
from spade_cli.progress import Stages
from spade_cli.reopening import Reopened

LAYERS = 4  # shown if none is named: the last pruned ones, whose channels mean the most to people
TOGETHER = 8  # visualizations in one batch: what a laptop's memory holds at 224 pixels


@dataclass
class Neuron:
    """One channel of a layer, in both networks (dense, trace)."""

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


def choose_layers(found: Mapping[str, object], patterns: Sequence[str]) -> list[str]:
    """The layers to look into, in the network's order: those the patterns name, else the last pruned ones."""
    layers: list[dict] = found["layers"]  # type: ignore[assignment]
    if not patterns:
        pruned = [layer["name"] for layer in layers if layer["left"] is None]
        return (pruned or [layer["name"] for layer in layers])[-LAYERS:]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer["name"], pattern) for layer in layers):
            raise UserError(f"--layers {pattern} matches no layer; spade layers lists them")
    return [one["name"] for one in layers if any(fnmatch.fnmatchcase(one["name"], p) for p in patterns)]


def rank(run: Reopened, layers: Sequence[str], top: int) -> list[Neuron]:
    """The `top` channels of each layer that add most to the answer in the trace; those that add nothing are left out.

    What a channel adds is `interpretation.contribution`'s sum: its activation times the weights that are left after it.
    """
    added = {name: contributions(network, run.x, run.target, layers) for name, network in run.networks.items()}
    chosen = []
    for layer in layers:
        by_network = {name: by_layer[layer] for name, by_layer in added.items()}  # (channels, ...) each
        totals = {name: one.reshape(len(one), -1).sum(1) for name, one in by_network.items()}  # (channels,) each
        order = {name: total.argsort(descending=True, stable=True) for name, total in totals.items()}
        for channel in order["trace"][:top].tolist():
            if totals["trace"][channel] <= 0:
                break
            chosen.append(
                Neuron(
                    layer,
                    channel,
                    {name: _share(total, channel) for name, total in totals.items()},
                    {name: int((places == channel).nonzero()) + 1 for name, places in order.items()},
                    {name: _as_map(one[channel]) for name, one in by_network.items()},
                )
            )
    return chosen


def _share(total: Tensor, channel: int) -> float:
    """Of the sum of what is added in favour, (channels,); negative for a channel that speaks against the answer."""
    return float(total[channel] / total.clamp(min=0).sum().clamp(min=torch.finfo(total.dtype).tiny))


def _as_map(added: Tensor) -> Tensor:
    """What one channel adds, as (height, width): tokens have no places that we know of, and a vector has none."""
    return added if added.dim() == 2 else added.sum().view(1, 1)


def draw(run: Reopened, neurons: Sequence[Neuron], steps: int, seed: int, stages: Stages) -> None:
    """Visualize every neuron on both networks, from the same noise, and put the pictures in."""
    own = run.classifier.preprocessing
    batches = [neurons[start : start + TOGETHER] for start in range(0, len(neurons), TOGETHER)]
    with stages.stage("visualization", total=len(batches) * steps * len(run.networks)) as advance:
        for name, network in run.networks.items():
            for batch in batches:
                pictures = visualize(
                    network,
                    [Channel(one.layer, one.channel) for one in batch],
                    size=own.size,
                    mean=own.mean,
                    std=own.std,
                    steps=steps,
                    seed=seed,
                    on_step=_each(advance),
                )
                for one, picture in zip(batch, pictures, strict=True):
                    one.pictures[name] = picture


def _each(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    return lambda step, steps: advance(1)
