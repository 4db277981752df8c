"""Samples in, trace out: everything from a layer's statistics to a pruned copy of the network."""

from spade_cli.pruning.hessian import Statistics, collect
from spade_cli.pruning.layers import Layer, find_layers
from spade_cli.pruning.pruner import Pruner, pruner_named
from spade_cli.pruning.trace import LayerRecord, Pruning, Trace, prune, prune_many

__all__ = [
    "Layer",
    "LayerRecord",
    "Pruner",
    "Pruning",
    "Statistics",
    "Trace",
    "collect",
    "find_layers",
    "prune",
    "prune_many",
    "pruner_named",
]
