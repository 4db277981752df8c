"""Conditions: what makes the networks that are explained of one calibrated image, dense or pruned in some way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Condition:
    """A name, and a function from a calibrated image to the networks to explain.

    make: the network that is measured comes first; maps are means over all, as in a run.
    layers: whose statistics `make` reads; none: it makes the same network for every image. of_other: it is given the
    calibration of another image, as a control.
    """

    name: str
    make: Callable[[CalibratedImage], tuple[nn.Module, ...]]
    layers: tuple[str, ...] = ()
    of_other: bool = False


def dense_condition() -> Condition:
    """The network as it is."""
    return Condition(DENSE, lambda image: (image.classifier.model,))


def trace_condition(name: str, asked: TraceCondition, layers: Sequence[Layer]) -> Condition:
    """A trace with shares from a schedule. Raises UserError where the schedule does not fit the network."""
    try:
        shares = asked.settings.settle_shares(layers)
    except UserError as error:
        raise UserError(f"conditions: {name}: {error}") from None

    def make(image: CalibratedImage) -> tuple[nn.Module, ...]:
        return make_trace(image, shares, asked.settings).for_maps

    return Condition(name, make, shares.layers, asked.of_other)
