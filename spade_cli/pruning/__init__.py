"""Samples in, trace out: everything from a layer's statistics to a pruned copy of the network."""

from spade_cli.pruning.blocks import blocks, body
from spade_cli.pruning.draft import Draft
from spade_cli.pruning.fidelity import Judge, breaking_layer
from spade_cli.pruning.hessian import Statistics, collect
from spade_cli.pruning.layers import Layer, find_layers
from spade_cli.pruning.search import Auto, HeadSearch, Search
from spade_cli.pruning.solvers.pruner import Pruner, find_pruner
from spade_cli.pruning.trace import OtherTraces, Pruning, Trace, prune, prune_many
from spade_cli.records import Fidelity, LayerRecord, Trial
