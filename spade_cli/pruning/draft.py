"""A copy of the network whose layers can be set to any share and back: each is solved once for each share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spade_cli.networks.copies import copy_for_eval
from spade_cli.pruning.hessian import Statistics
from spade_cli.pruning.layers import Layer, block_of, layer_modules
from spade_cli.pruning.solvers.damped_hessian import damp
from spade_cli.pruning.solvers.pruner import Pruner, fit_hessian, give_gradient
from spade_cli.pruning.trace import Trace, dense_record, order_records, solvable_weight, solve_ladder
from spade_cli.records import LayerRecord, Trial


@dataclass(frozen=True)
class SparseWeight:
    """A pruned weight: what is not zero (n,), and where that is in the flattened weight, int32 (n,)."""

    values: Tensor
    places: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, weight: Tensor) -> "SparseWeight":
        """Without the zeros."""
        flat = weight.flatten()
        places = flat.nonzero().flatten()
        return cls(flat[places], places.int(), tuple(weight.shape))

    @staticmethod
    def bytes_of(weight: Tensor, share: float) -> float:
        """What a weight takes in memory when this share of it is zero, in bytes."""
        return weight.numel() * (1 - share) * (weight.element_size() + 4)

    def dense(self) -> Tensor:
        """The weight in its shape."""
        flat = self.values.new_zeros(torch.Size(self.shape).numel())
        flat[self.places.long()] = self.values
        return flat.view(self.shape)


class Draft:
    """A trace whose shares can still change. The dense network is untouched.

    owns_statistics: they are nobody else's, so `free` may drop what it does not need any more.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        statistics: Statistics,
        pruner: Pruner,
        damping: float,
        owns_statistics: bool = False,
    ) -> None:
        self.model = copy_for_eval(model)
        self.layers = {layer.name: layer for layer in layers}
        self.statistics, self.pruner, self.damping = statistics, pruner, damping
        self.shares: dict[str, float] = {}  # as the copy is now; the rest is dense
        self._dense, self._own = layer_modules(model), layer_modules(self.model)
        self._solved: dict[tuple[str, float], tuple[SparseWeight | None, LayerRecord]] = {}  # None: it stays dense
        self._solved_rows: dict[tuple[str, int, float], Tensor] = {}
        self._owns_statistics = owns_statistics

    def weight(self, name: str) -> Tensor:
        """A layer's weight in the copy."""
        return self._own[name].weight  # type: ignore[return-value]

    @torch.no_grad()
    def set(self, shares: Mapping[str, float]) -> nn.Module:
        """The copy with these shares, everything else dense. A layer without statistics stays dense."""
        for name in {**self.shares, **shares}:
            share = shares.get(name, 0.0)
            if share != self.shares.get(name, 0.0):
                solved, _ = self._at(name, share)
                dense: Tensor = self._dense[name].weight  # type: ignore[assignment]
                self.weight(name).copy_(dense if solved is None else solved.dense())
        self.shares = dict(shares)
        return self.model

    @torch.no_grad()
    def set_rows(self, name: str, rows: Sequence[int], share: float) -> None:
        """Some rows of a layer pruned to this share, each by its own budget, and the rest of the layer dense."""
        own, dense = self.weight(name), self._dense[name].weight
        own.copy_(dense)  # type: ignore[arg-type]
        for row in rows if share else ():
            own[row] = self._row_at(name, row, share).view(own[row].shape)

    def _row_at(self, name: str, row: int, share: float) -> Tensor:
        """A pruned row, (1, 1, c), solved once."""
        if (name, row, share) not in self._solved_rows:
            weight = solvable_weight(self._dense[name])[:, row : row + 1]  # (1, 1, c)
            damped, _ = damp(self.statistics.hessians[name].to(weight.device), self.damping)
            gradient = self.statistics.gradients.get(name)
            pruner = give_gradient(self.pruner, None if gradient is None else gradient[:, row : row + 1])
            pruned = pruner(weight, fit_hessian(pruner, damped), share, block_of(self._dense[name]))
            self._solved_rows[name, row, share] = pruned
        return self._solved_rows[name, row, share]

    @torch.no_grad()
    def solve(self, name: str, shares: Sequence[float]) -> None:
        """Solve a layer at those of these shares at which it is not solved yet, all at once."""
        module, layer = self._dense[name], self.layers[name]
        missing = [share for share in shares if (name, share) not in self._solved]
        left = [dense_record(module, layer, share, self.statistics) for share in missing]
        for share, record in zip(missing, left, strict=True):
            if record is not None:
                self._solved[name, share] = None, record
        missing = [share for share, record in zip(missing, left, strict=True) if record is None]
        if missing:
            found = solve_ladder(module, layer, missing, self.statistics, self.pruner, self.damping)
            for share, (weight, record) in zip(missing, found, strict=True):
                self._solved[name, share] = SparseWeight.of(weight), record

    def free(self, name: str) -> None:
        """Drop the statistics of a layer that is not to be solved any more, if they are the draft's own."""
        if self._owns_statistics:
            self.statistics.hessians.pop(name, None)

    def copy(self) -> nn.Module:
        """A copy of the copy as it is now. Parameters that no share changes are the draft's own, to save memory."""
        pruned = {id(self.weight(name)) for name in self.layers}
        return copy_for_eval(self.model, shared=[one for one in self.model.parameters() if id(one) not in pruned])

    def trace(self, trials: tuple[Trial, ...] = ()) -> Trace:
        """The copy as it is now, with a record of each layer and the trials that led to it."""
        records = {name: self._at(name, self.shares.get(name, 0.0))[1] for name in self.layers}
        return Trace(self.model, order_records(tuple(self.layers.values()), records), self.statistics.logits, trials)

    def _at(self, name: str, share: float) -> tuple[SparseWeight | None, LayerRecord]:
        self.solve(name, [share])
        return self._solved[name, share]
