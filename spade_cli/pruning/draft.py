"""A copy of the network whose layers can be set to any share and back: each is solved once for each share."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from spade_cli.networks.copies import copy_for_eval
from spade_cli.pruning.hessian import Statistics
from spade_cli.pruning.layers import Layer, layer_modules
from spade_cli.pruning.solvers.pruner import Pruner
from spade_cli.pruning.trace import Trace, dense_record, order_records, solve
from spade_cli.records import LayerRecord, Trial


class Draft:
    """A trace whose shares can still change. The dense network is untouched."""

    def __init__(
        self, model: nn.Module, layers: Sequence[Layer], statistics: Statistics, pruner: Pruner, damping: float
    ) -> None:
        self.model = copy_for_eval(model)
        self.layers = {layer.name: layer for layer in layers}
        self.statistics, self.pruner, self.damping = statistics, pruner, damping
        self.shares: dict[str, float] = {}  # as the copy is now; the rest is dense
        self._dense, self._own = layer_modules(model), layer_modules(self.model)
        self._solved: dict[tuple[str, float], tuple[Tensor, LayerRecord]] = {}

    @torch.no_grad()
    def set(self, shares: Mapping[str, float]) -> nn.Module:
        """The copy with these shares, everything else dense. A layer without statistics stays dense."""
        for name in {**self.shares, **shares}:
            if shares.get(name, 0.0) != self.shares.get(name, 0.0):
                self._own[name].weight.copy_(self._at(name, shares.get(name, 0.0))[0])  # type: ignore[operator]
        self.shares = dict(shares)
        return self.model

    def trace(self, trials: tuple[Trial, ...] = ()) -> Trace:
        """The copy as it is now, with a record of each layer and the trials that led to it."""
        records = {name: self._at(name, self.shares.get(name, 0.0))[1] for name in self.layers}
        return Trace(self.model, order_records(tuple(self.layers.values()), records), self.statistics.logits, trials)

    def _at(self, name: str, share: float) -> tuple[Tensor, LayerRecord]:
        if (name, share) not in self._solved:
            module, layer = self._dense[name], self.layers[name]
            left = dense_record(module, layer, share, self.statistics)
            if left is not None:
                return module.weight, left  # type: ignore[return-value]
            found = solve(module, layer, share, [self.statistics], self.pruner, self.damping)
            self._solved[name, share] = found[0]
        return self._solved[name, share]
