"""hessians -> trace: a pruned copy of the network, with a record of what happened to each layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spade_cli.devices import full_precision
from spade_cli.errors import SpadeError
from spade_cli.networks.copies import copy_for_eval
from spade_cli.pruning.hessian import Statistics
from spade_cli.pruning.layers import Layer, block_of, layer_modules, weight_matrix
from spade_cli.pruning.solvers.damped_hessian import Hessian, damp, relative_error
from spade_cli.pruning.solvers.pruner import Pruner, can, fit_hessian, give_gradient, ladder
from spade_cli.records import LayerRecord, Trial

STACK_BYTES = 2**30  # of the float64 matrices, about five an image, with which a layer of several images is solved


@dataclass(frozen=True)
class OtherTraces:
    """Further traces of one image, and the trials that they are: the search knows more than one faithful trace.

    for_maps: spread over depth and share; maps are means over the trace and these. for_visualization: their heads are
    pruned as well; none where no share of the head is faithful, or it was not searched.
    """

    for_maps: tuple[nn.Module, ...] = ()
    for_visualization: tuple[nn.Module, ...] = ()
    map_trials: tuple[Trial, ...] = ()  # the trace's own first
    visualization_trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Trace:
    """A network pruned for one image."""

    model: nn.Module  # a copy; the dense network is untouched
    layers: tuple[LayerRecord, ...]  # of every convolution and linear layer
    logits: Tensor  # (samples, classes): what the dense network says about the samples
    trials: tuple[Trial, ...] = ()  # what was tried to find the shares, if they were not given
    others: "OtherTraces | None" = None  # what else the search found

    @property
    def for_maps(self) -> tuple[nn.Module, ...]:
        """The networks whose maps are averaged: the trace first, and the others that the search handed on."""
        return (self.model, *(self.others.for_maps if self.others else ()))

    @property
    def for_visualization(self) -> tuple[nn.Module, ...]:
        """The networks that a visualization excites together: those with a pruned head, the trace where none is."""
        return (self.others.for_visualization if self.others else ()) or (self.model,)

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
    return prune_many(model, layers, shares, [statistics], pruner, damping=damping, on_layer=on_layer)[0]


@torch.no_grad()
def prune_many(
    model: nn.Module,
    layers: Sequence[Layer],
    shares: Mapping[str, float],
    statistics: Sequence[Statistics],
    pruner: Pruner,
    *,
    damping: float = 0.01,
    on_layer: Callable[[str], None] | None = None,
) -> list[Trace]:
    """`prune` for several images: a trace for each image's statistics, every layer solved for all of them at once.

    Pruners that do not `handle` stacked Hessians solve them one by one.
    """
    pruning = Pruning(model, len(statistics), damping)
    pruning.add(layers, shares, statistics, pruner, on_layer)
    return pruning.traces(layers, [one.logits for one in statistics])


class Pruning:
    """Traces in the making: layers are pruned as their statistics come in."""

    def __init__(self, model: nn.Module, images: int, damping: float) -> None:
        self.dense = layer_modules(model)
        self.models = [copy_for_eval(model) for _ in range(images)]
        self.modules = [layer_modules(one) for one in self.models]
        self.records: list[dict[str, LayerRecord]] = [{} for _ in range(images)]
        self.damping = damping

    @torch.no_grad()
    def add(
        self,
        layers: Sequence[Layer],
        shares: Mapping[str, float],
        statistics: Sequence[Statistics],
        pruner: Pruner,
        on_layer: Callable[[str], None] | None = None,
    ) -> None:
        """Prune these layers by each image's statistics; one whose share is 0, or without statistics, is left dense."""
        for layer in layers:
            share = shares.get(layer.name, 0.0)
            dense = self.dense[layer.name]
            records = [dense_record(dense, layer, share, one) for one in statistics]
            pruned = [image for image, record in enumerate(records) if record is None]
            solved = solve(dense, layer, share, [statistics[image] for image in pruned], pruner, self.damping)
            for image, (weight, record) in zip(pruned, solved, strict=True):
                self.modules[image][layer.name].weight.copy_(weight)  # type: ignore[operator]
                records[image] = record
            for known, one in zip(self.records, records, strict=True):
                assert one is not None
                known[layer.name] = one
            if on_layer is not None:
                on_layer(layer.name)

    def traces(self, layers: Sequence[Layer], logits: Sequence[Tensor]) -> list[Trace]:
        """The traces, their records in the order of `layers`; logits (samples, classes) of each image."""
        records = [order_records(layers, found) for found in self.records]
        return [Trace(*one) for one in zip(self.models, records, logits, strict=True)]


def order_records(layers: Sequence[Layer], found: Mapping[str, LayerRecord]) -> tuple[LayerRecord, ...]:
    """The records in the order of `layers`; a layer that shares a weight has the record of the layer that holds it."""
    return tuple(
        found[layer.name]
        if layer.tied is None
        else replace(found[layer.name], weights=0, achieved=found[layer.tied].achieved)
        for layer in layers
    )


def dense_record(module: nn.Module, layer: Layer, share: float, statistics: Statistics) -> LayerRecord | None:
    """The record of a layer that stays as it is, with the reason; None where it is to be pruned."""
    why = _why_left(layer, share, statistics)
    if why is None:
        return None
    zeros = int(torch.count_nonzero(module.weight == 0))  # type: ignore[arg-type]
    achieved = zeros / layer.parameters if layer.parameters else 0.0
    return LayerRecord(layer.name, layer.kind, layer.shape, layer.parameters, 0.0, achieved, left=why)


def _why_left(layer: Layer, share: float, statistics: Statistics) -> str | None:
    if share == 0:
        return layer.reason or "its share is 0"
    if layer.name not in statistics.hessians:
        return "saw no data: the network never called it"
    if not statistics.hessians[layer.name].diagonal(dim1=1, dim2=2).any():
        return "its inputs were all zero"
    return None


def solve(
    module: nn.Module,
    layer: Layer,
    share: float,
    statistics: Sequence[Statistics],
    pruner: Pruner,
    damping: float,
) -> list[tuple[Tensor, LayerRecord]]:
    """The dense module's weight pruned for each image's statistics, in the layer's shape, and what happened to it.

    Raises SpadeError, with the layer's name, where a Hessian cannot be factorised or a pruner breaks its promise.
    """
    found = []
    with _layer_named_in_errors(layer), full_precision():
        weight = solvable_weight(module)
        together = max(1, STACK_BYTES // (5 * 8 * weight.shape[0] * weight.shape[2] ** 2))
        for start in range(0, len(statistics), together):
            part = statistics[start : start + together]
            hessians = [one.hessians[layer.name].to(weight.device) for one in part]  # (g, c, c) each
            damped, amounts = zip(*(damp(one, damping) for one in hessians), strict=True)
            each = [give_gradient(pruner, one.gradients.get(layer.name)) for one in part]
            solved = _solve(each, weight, damped, share, block_of(module))
            for one, hessian, pruned, amount in zip(part, hessians, solved, amounts, strict=True):
                found.append(_check_solution(weight, pruned, hessian, layer, share, amount, one))
    return found


def solve_ladder(
    module: nn.Module,
    layer: Layer,
    shares: Sequence[float],
    statistics: Statistics,
    pruner: Pruner,
    damping: float,
) -> list[tuple[Tensor, LayerRecord]]:
    """`solve` for one image, at each of these shares: all that they have in common is computed once."""
    with _layer_named_in_errors(layer), full_precision():
        weight = solvable_weight(module)
        hessian = statistics.hessians[layer.name].to(weight.device)  # (g, c, c)
        damped, amount = damp(hessian, damping)
        pruner = give_gradient(pruner, statistics.gradients.get(layer.name))
        solved = ladder(pruner, weight, fit_hessian(pruner, damped), shares, block_of(module))
        return [
            _check_solution(weight, pruned, hessian, layer, share, amount, statistics)
            for share, pruned in zip(shares, solved, strict=True)
        ]


@contextmanager
def _layer_named_in_errors(layer: Layer) -> Iterator[None]:
    try:
        yield
    except SpadeError as error:
        raise type(error)(f"layer {layer.name}: {error}") from error
    except torch.linalg.LinAlgError as error:
        raise SpadeError(
            f"layer {layer.name}: its Hessian is too close to singular for this pruner; raise pruner.damping "
            f"({' '.join(str(error).split())})"
        ) from error


def solvable_weight(module: nn.Module) -> Tensor:
    """The dense weight as solvers take it, (g, r, c)."""
    weight = weight_matrix(module).float()
    # Apple's MPS has neither float64 nor a Cholesky factorisation: solvers run on the CPU there.
    weight = weight.cpu() if weight.device.type == "mps" else weight
    if not torch.isfinite(weight).all():
        raise SpadeError("its weights hold infinite or NaN values; check the network's weights")
    return weight


def _check_solution(
    weight: Tensor,
    pruned: Tensor,
    hessian: Hessian,
    layer: Layer,
    share: float,
    damping: float,
    statistics: Statistics,
) -> tuple[Tensor, LayerRecord]:
    """A pruner's result, (g, r, c), in the layer's shape, and the record of it."""
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
        damping=damping,
        observations=statistics.observations[layer.name],
    )
    return pruned.reshape(layer.shape), record


def _solve(
    pruners: Sequence[Pruner], weight: Tensor, hessians: Sequence[Hessian], share: float, block: int
) -> list[Tensor]:
    """The pruned weight, (g, r, c), for each damped Hessian and its pruner: the same, with the image's gradient."""
    ready = [fit_hessian(pruners[0], one) for one in hessians]
    whole = [one for one in ready if isinstance(one, Tensor)]
    if len(whole) == len(ready) > 1 and can(pruners[0], "stacked"):
        return list(pruners[0](weight.expand(len(ready), *weight.shape), torch.stack(whole), share, block))
    return [prune_one(weight, one, share, block) for prune_one, one in zip(pruners, ready, strict=True)]


def _fault(pruned: Tensor, weight: Tensor) -> str:
    if pruned.shape != weight.shape:
        return f"weights of shape {tuple(pruned.shape)} for a layer of {tuple(weight.shape)}"
    return "infinite or NaN weights"
