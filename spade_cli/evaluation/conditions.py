"""Conditions: what makes the network that is explained of one calibrated image, dense or pruned in some way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from spade_cli.errors import UserError
from spade_cli.pruning import Layer
from spade_cli.run.make_trace import CalibratedImage, make_trace
from spade_cli.run.trace_settings import TraceSettings

DENSE, SPARSE_FC = "dense", "sparse_fc"  # the conditions that are no traces


@dataclass(frozen=True)
class TraceCondition:
    """What is asked for as a condition: a trace of the image itself, or of another image as a control."""

    settings: TraceSettings
    of_other: bool = False

    def with_visualizations(self, traces: int) -> "TraceCondition":
        """The same where visualizations are made, of so many traces with a pruned head."""
        return replace(self, settings=replace(self.settings, visualization_traces=traces))


@dataclass(frozen=True)
class Networks:
    """What a condition explains: a network, and those whose maps are averaged and that visualizations excite."""

    network: nn.Module
    for_maps: tuple[nn.Module, ...]
    for_visualization: tuple[nn.Module, ...]

    @classmethod
    def of(cls, network: nn.Module) -> "Networks":
        """One network for everything."""
        return cls(network, (network,), (network,))


@dataclass(frozen=True)
class Condition:
    """A name, and a function from a calibrated image to the networks to explain.

    layers: whose weights it changes; none: it makes the same network for every image. head: layers whose statistics
    `make` reads as well, for visualizations. of_other: it is given the calibration of another image, as a control.
    """

    name: str
    make: Callable[[CalibratedImage], Networks]
    layers: tuple[str, ...] = ()
    of_other: bool = False
    head: tuple[str, ...] = ()


def dense_condition() -> Condition:
    """The network as it is."""
    return Condition(DENSE, lambda image: Networks.of(image.classifier.model))


def trace_condition(name: str, asked: TraceCondition, layers: Sequence[Layer]) -> Condition:
    """A trace with shares from a schedule. Raises UserError where the schedule does not fit the network."""
    try:
        shares = asked.settings.settle_shares(layers)
    except UserError as error:
        raise UserError(f"conditions: {name}: {error}") from None

    def make(image: CalibratedImage) -> Networks:
        trace = make_trace(image, shares, asked.settings)
        return Networks(trace.model, trace.for_maps, trace.for_visualization)

    head = shares.head if asked.settings.visualization_traces else ()
    return Condition(name, make, shares.layers, asked.of_other, head)
