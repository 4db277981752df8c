"""Samples in, trace out: everything from a layer's statistics to a pruned copy of the network."""

from importlib import import_module
from importlib.util import find_spec

from spade_cli.errors import UserError
from spade_cli.pruning.hessian import Statistics, collect
from spade_cli.pruning.layers import Layer, find_layers
from spade_cli.pruning.trace import LayerRecord, Pruner, Trace, prune

__all__ = ["Layer", "LayerRecord", "Pruner", "Statistics", "Trace", "collect", "find_layers", "prune", "pruner_named"]


def pruner_named(name: str) -> Pruner:
    """The function of a solver file in this folder: "obs" -> obs.obs. Raises UserError where there is none."""
    home = f"{__name__}.{name}"
    if name.isidentifier() and find_spec(home) is not None:
        pruner = getattr(import_module(home), name, None)
        if callable(pruner):
            return pruner
    raise UserError(
        f"pruner={name!r} is unknown: give obs, sparsegpt, or a function (weight, hessian, sparsity, block) -> weight"
    )
