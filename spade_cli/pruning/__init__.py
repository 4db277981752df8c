"""Samples in, trace out: everything from a layer's statistics to a pruned copy of the network."""

from importlib import import_module
from importlib.util import find_spec
from inspect import signature

from spade_cli.errors import UserError
from spade_cli.pruning.hessian import Statistics, collect
from spade_cli.pruning.layers import Layer, find_layers
from spade_cli.pruning.trace import LayerRecord, Pruner, Trace, prune

__all__ = ["Layer", "LayerRecord", "Pruner", "Statistics", "Trace", "collect", "find_layers", "prune", "pruner_named"]

ARGUMENTS = ("weight", "hessian", "sparsity", "block")  # what makes a function a pruner


def pruner_named(name: str) -> Pruner:
    """The solver of this folder's file of that name: "obs" -> obs.obs. Raises UserError where there is none."""
    home = f"{__name__}.{name}"
    if name.isidentifier() and find_spec(home) is not None:
        pruner = getattr(import_module(home), name, None)
        if callable(pruner) and tuple(signature(pruner).parameters)[:4] == ARGUMENTS:
            return pruner
    raise UserError(
        f"pruner={name!r} is unknown: give forward, obs, sparsegpt, or a function ({', '.join(ARGUMENTS)}) -> weight"
    )
