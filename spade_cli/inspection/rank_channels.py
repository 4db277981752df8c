"""The channels that carry a prediction in the trace, ranked by layer, beside what they do in the dense network."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spade_cli.cache import Cache
from spade_cli.errors import UserError
from spade_cli.inspection.reopen import OpenRun
from spade_cli.interpretation import Channel, explainable, visualize, visualize_dense
from spade_cli.interpretation.contribution import called_layers, contributions
from spade_cli.interpretation.rewrite.layer_nodes import Stop, widen_to_blocks
from spade_cli.models import Preprocessing
from spade_cli.progress import Stages, count_percents
from spade_cli.report.channel_pages import Neuron

LAYERS = 4  # shown if none is named: the last ones, whose channels mean the most to people
TOGETHER = 4  # visualizations in one batch, of four crops each: what a laptop's memory holds at 224 pixels


def choose_layers(run: OpenRun, patterns: Sequence[str]) -> list[str]:
    """The layers to look into, in the order of named_modules: those the patterns name, else those of `pick_layers`.

    A pattern that matches no layer may name other modules, such as blocks. Layers that the network uses without
    calling them, as attention does, have no outputs to be seen: none is chosen.
    Errors: UserError for a pattern that matches nothing, or nothing whose output can be seen.
    """
    seen = called_layers(run.classifier.model, run.x)
    known = [layer for layer in run.summary.layers if layer.name in seen]
    if not patterns:
        pruned = {layer.name for layer in known if layer.left is None} or {layer.name for layer in known}
        network = explainable(run.classifier.model, run.x)
        return pick_layers(widen_to_blocks(network, run.x, [layer.name for layer in known]), pruned)
    layers, modules = [layer.name for layer in known], dict(run.classifier.model.named_modules())
    chosen = set()
    for pattern in patterns:
        matched = fnmatch.filter(layers, pattern) or fnmatch.filter([name for name in modules if name in seen], pattern)
        if not matched and not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in run.summary.layers):
            raise UserError(f"layers={pattern} matches no layer; spade layers lists them")
        if not matched:
            raise UserError(
                f"layers={pattern} matches only layers that the network never calls as modules (attention's "
                "projections), whose channels cannot be seen; name others"
            )
        chosen |= set(matched)
    return [name for name in modules if name in chosen]


def pick_layers(stops: Sequence[Stop], pruned: set[str]) -> list[str]:
    """The last LAYERS pruned layers; of blocks, which shortcuts pass through, the last of each stage.

    In a stage, blocks of one shape, most of what a channel carries comes from the same channel of the block before. So
    the stages say more, also those before the first pruned layer. What is missing to LAYERS are the last pruned blocks.
    """
    kept = [stop for stop in stops if stop.is_block or pruned.intersection(stop.layers)]
    ends = [
        stop
        for stop, behind in zip(kept, [*kept[1:], None], strict=True)
        if behind is None or not (stop.is_block and behind.is_block and stop.shape == behind.shape)
    ]
    chosen = ends[-LAYERS:]
    others = [stop for stop in kept if stop not in chosen and pruned.intersection(stop.layers)]
    chosen += others[len(chosen) - LAYERS :] if len(chosen) < LAYERS else []
    return [stop.name for stop in kept if stop in chosen]


def rank_channels(run: OpenRun, layers: Sequence[str], top: int) -> list[Neuron]:
    """The `top` channels of each layer that add most to the answer in the trace, none that adds nothing."""
    sums = {name: contributions(network, run.x, run.question, layers) for name, network in run.networks.items()}
    chosen = []
    for layer in layers:
        total = _sum_places(sums["trace"][layer])
        best = total.argsort(descending=True, stable=True)[:top].tolist()
        chosen += [make_neuron(sums, layer, channel) for channel in best if total[channel] > 0]
    return chosen


def make_neuron(sums: Mapping[str, Mapping[str, Tensor]], layer: str, channel: int) -> Neuron:
    """One channel, from the `contributions` of every network."""
    totals = {name: _sum_places(by_layer[layer]) for name, by_layer in sums.items()}
    return Neuron(
        layer,
        channel,
        {name: _share(total, channel) for name, total in totals.items()},
        {name: int((total > total[channel]).sum()) + 1 for name, total in totals.items()},
        {name: _as_map(by_layer[layer][channel]) for name, by_layer in sums.items()},
    )


def _sum_places(added: Tensor) -> Tensor:
    """(channels, ...) -> (channels,)."""
    return added.reshape(len(added), -1).sum(1)


def _share(total: Tensor, channel: int) -> float:
    """Of the sum of what is added in favour, (channels,); negative for a channel that speaks against the answer."""
    return float(total[channel] / total.clamp(min=0).sum().clamp(min=torch.finfo(total.dtype).tiny))


def _as_map(added: Tensor) -> Tensor:
    """What one channel adds, as (height, width): tokens have no places that we know of, and a vector has none."""
    return added if added.dim() == 2 else added.sum().view(1, 1)


def draw_neurons(
    networks: Mapping[str, nn.Module],
    neurons: Sequence[Neuron],
    own: Preprocessing,
    steps: int,
    seed: int,
    stages: Stages,
    cache: Cache | None = None,
    name_in_cache: str = "",
) -> None:
    """Visualize every neuron on every network, from the same noise, and put the pictures in.

    The dense network's come from the cache where they were made before; `name_in_cache` is its name there.
    """
    settings: dict[str, Any] = {"size": own.size, "mean": own.mean, "std": own.std, "seed": seed}
    batches = [neurons[start : start + TOGETHER] for start in range(0, len(neurons), TOGETHER)]
    with stages.stage("visualization", total=100 * len(batches) * len(networks)) as advance:
        for name, network in networks.items():
            for batch in batches:
                pictures = visualize_dense(
                    cache if name == "dense" else None,
                    partial(visualize, steps=steps),
                    [network],
                    [Channel(one.layer, one.channel) for one in batch],
                    name=name_in_cache,
                    on_step=count_percents(advance),
                    **settings,
                ).values
                for one, picture in zip(batch, pictures, strict=True):
                    one.pictures[name] = picture
