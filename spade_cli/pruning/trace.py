"""hessians -> trace: a pruned copy of the network, with a record of what happened to each layer."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spade_cli.errors import SpadeError
from spade_cli.pruning.hessian import Statistics, damp, relative_error
from spade_cli.pruning.layers import Layer, block_of, weight_matrix

Pruner = Callable[[Tensor, Tensor, float, int], Tensor]  # (weight, hessian, sparsity, block) -> weight


@dataclass(frozen=True)
class LayerRecord:
    """One row of the report: what was asked of a layer and what it got."""

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    asked: float  # share of the layer's units to remove; 0 where it was left dense
    achieved: float  # share of its weights that are exactly zero
    error: float | None = None  # ||W'X - WX||^2 / ||WX||^2 over the samples; None where it was not pruned
    damping: float | None = None  # relative to the mean diagonal, after escalation
    observations: int | None = None  # columns of X
    left: str | None = None  # why it was left dense


@dataclass(frozen=True)
class Trace:
    """A network pruned for one image."""

    model: nn.Module  # a copy; the dense network is untouched
    layers: tuple[LayerRecord, ...]  # of every convolution and linear layer
    logits: Tensor  # (samples, classes): what the dense network says about the samples

    @property
    def weights_total(self) -> int:
        """Weights of all convolutions and linear layers (biases and normalisation are never pruned)."""
        return sum(layer.weights for layer in self.layers)

    @property
    def weights_kept(self) -> int:
        """Weights that are not zero."""
        return sum(layer.weights - round(layer.weights * layer.achieved) for layer in self.layers)

    @property
    def sparsity(self) -> float:
        """Share of all weights that are exactly zero."""
        return 1 - self.weights_kept / self.weights_total if self.weights_total else 0.0

    def __repr__(self) -> str:
        pruned = sum(layer.left is None for layer in self.layers)
        return (
            f"Trace({type(self.model).__name__}, {pruned} of {len(self.layers)} layers pruned, "
            f"{self.weights_kept:,} of {self.weights_total:,} weights kept)"
        )


@torch.no_grad()
def prune(
    model: nn.Module,
    layers: Sequence[Layer],
    shares: Mapping[str, float],
    statistics: Statistics,
    pruner: Pruner,
    *,
    damping: float = 0.01,
    on_layer: Callable[[str], None] | None = None,
) -> Trace:
    """Prune a copy of the dense model, each layer on its own statistics.

    `shares` maps layer names to the share of their units to remove. A layer without statistics (its module never ran,
    or its inputs were all zero) is left dense and says so. Raises SpadeError where a layer's Hessian cannot be
    factorised or a pruner breaks its promise.
    """
    trace = copy.deepcopy(model).eval()
    for parameter in trace.parameters():
        parameter.grad = None
    modules = dict(trace.named_modules())
    records = []
    for layer in layers:
        share = shares.get(layer.name, 0.0)
        left = _why_left(layer, share, statistics)
        if left is not None:
            zeros = int((modules[layer.name].weight == 0).sum())
            achieved = zeros / layer.parameters if layer.parameters else 0.0
            records.append(LayerRecord(layer.name, layer.kind, layer.shape, layer.parameters, 0.0, achieved, left=left))
            continue
        try:
            records.append(_prune_layer(modules[layer.name], layer, share, statistics, pruner, damping))
        except SpadeError as error:
            raise type(error)(f"layer {layer.name}: {error}") from error
        if on_layer is not None:
            on_layer(layer.name)
    return Trace(trace, tuple(records), statistics.logits)


def _why_left(layer: Layer, share: float, statistics: Statistics) -> str | None:
    if share == 0:
        return layer.reason or "its share is 0"
    if layer.name not in statistics.hessians:
        return "saw no data: the network never called it"
    if not statistics.hessians[layer.name].any():
        return "its inputs were all zero"
    return None


def _prune_layer(
    module: nn.Module, layer: Layer, share: float, statistics: Statistics, pruner: Pruner, damping: float
) -> LayerRecord:
    weight = weight_matrix(module).float()  # (g, r, c)
    # Apple's MPS has neither float64 nor a Cholesky factorisation: solvers run on the CPU there.
    weight = weight.cpu() if weight.device.type == "mps" else weight
    hessian = statistics.hessians[layer.name].to(weight.device)  # (g, c, c)
    damped, used = damp(hessian, damping)
    pruned = pruner(weight, damped, share, block_of(module))
    if pruned.shape != weight.shape or not torch.isfinite(pruned).all():
        raise SpadeError(f"the pruner returned {_fault(pruned, weight)}; this is a fault of the pruner")
    record = LayerRecord(
        layer.name,
        layer.kind,
        layer.shape,
        layer.parameters,
        asked=share,
        achieved=int((pruned == 0).sum()) / layer.parameters,
        error=relative_error(weight, pruned, hessian),
        damping=used,
        observations=statistics.observations[layer.name],
    )
    module.weight.copy_(pruned.reshape(layer.shape))  # type: ignore[operator]
    return record  # made before the copy: `weight` may share the module's memory


def _fault(pruned: Tensor, weight: Tensor) -> str:
    if pruned.shape != weight.shape:
        return f"weights of shape {tuple(pruned.shape)} for a layer of {tuple(weight.shape)}"
    return "infinite or NaN weights"
