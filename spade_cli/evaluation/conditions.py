"""Conditions: what makes the network that is explained of one calibrated image, dense or pruned in some way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from spade_cli.errors import UserError
from spade_cli.interpretation.saliency.smoothing import SmoothedMethod
from spade_cli.pruning import Layer
from spade_cli.run.make_trace import CalibratedImage, make_trace
from spade_cli.run.trace_settings import TraceSettings

DENSE, SPARSE_FC = "dense", "sparse_fc"  # the conditions that are no traces


@dataclass(frozen=True)
class Smoothing:
    """How a condition's maps are smoothed; None: as those of the other conditions."""

    samples: int | None = None  # noisy copies
    noise: float | None = None  # standard deviation, as a share of the picture's range


@dataclass(frozen=True)
class DenseCondition:
    """What is asked for as a condition: the dense network once more, with maps that are smoothed in another way."""

    smoothing: Smoothing


@dataclass(frozen=True)
class TraceCondition:
    """What is asked for as a condition: a trace of the image itself, or of another image as a control.

    single: maps are of the trace alone, whatever the settings say. Conditions with the same `settings` object share
    their search.
    """

    settings: TraceSettings
    of_other: bool = False
    single: bool = False
    smoothing: Smoothing = Smoothing()


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
    single: maps are of the first network alone. smoothing: how its maps are smoothed, where not as the others.
    """

    name: str
    make: Callable[[CalibratedImage], Networks]
    layers: tuple[str, ...] = ()
    of_other: bool = False
    head: tuple[str, ...] = ()
    single: bool = False
    smoothing: Smoothing = Smoothing()

    def choose_networks(self, made: Networks) -> Networks:
        """Those that are explained, of what `make` returned."""
        return replace(made, for_maps=made.for_maps[:1]) if self.single else made

    def smooth_method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method with the condition's own smoothing; without one the method as it is."""
        own = self.smoothing
        if own == Smoothing():
            return method
        assert isinstance(method, SmoothedMethod)  # as every method of a command is
        samples = method.samples if own.samples is None else own.samples
        return replace(method, samples=samples, noise=method.noise if own.noise is None else own.noise)


def dense_condition(name: str = DENSE, smoothing: Smoothing = Smoothing()) -> Condition:
    """The network as it is."""
    return Condition(name, _take_dense, smoothing=smoothing)


def _take_dense(image: CalibratedImage) -> Networks:
    return Networks.of(image.classifier.model)


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
    return Condition(name, make, shares.layers, asked.of_other, head, asked.single, asked.smoothing)
