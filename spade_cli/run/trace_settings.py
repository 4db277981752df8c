"""How a trace is made, from the image to the pruned weights: one record of settings for every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from spade_cli.images.augment import Augmentation, paper
from spade_cli.models import Preprocessing
from spade_cli.pruning import Layer, Pruner
from spade_cli.pruning.schedule import Schedule, Shares, auto, settle_shares
from spade_cli.pruning.solvers.forward import forward
from spade_cli.run.calibrate import Calibration


@dataclass(frozen=True)
class TraceSettings:
    """The defaults are `spade run`'s. Functions have their own settings bound; names are for records and errors."""

    augmentation: Augmentation = paper
    augmentation_name: str = "paper"
    sample_count: int = 256
    pruner: Pruner = forward  # (weight, hessian, sparsity, block) -> weight
    pruner_name: str = "forward"
    damping: float = 0.01  # of a Hessian, relative to its mean diagonal
    schedule: Schedule = auto
    schedule_name: str = "auto"
    level: float | None = None  # the share that the schedule starts from, 0 to 1; None: the schedule's own
    layer_shares: Mapping[str, float] = field(default_factory=dict)  # dotted name or glob -> share; over the schedule's
    calibration: Calibration = field(default_factory=Calibration)
    seed: int = 0
    map_traces: int = 1  # how many faithful traces a search hands on for maps, the trace itself among them
    visualization_traces: int = 0  # how many it hands on with a pruned head, for visualizations

    def draw_samples(self, image: Tensor, preprocessing: Preprocessing) -> Tensor:
        """The augmented copies of an image, uint8 (3, H, W): uint8 (samples, 3, h, w)."""
        return self.augmentation(image, self.sample_count, preprocessing, self.seed)

    def settle_shares(self, layers: Sequence[Layer]) -> Shares:
        """The share of each layer, or how it is found. Raises UserError where the schedule does not fit the network."""
        return settle_shares(self.schedule, layers, self.level, self.layer_shares)
