"""Conditions: what turns one image's calibration into the network that is explained, dense or pruned in some way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.models import Classifier
from spade_cli.pruning import Auto, Layer, Statistics, prune
from spade_cli.pruning import schedule as schedules
from spade_cli.run.calibrate import Calibration, calibrate, store_for
from spade_cli.run.find_trace import Subject, judge_of, search_of, subject_of

DENSE, SPARSE_FC = "dense", "sparse_fc"  # the conditions that are no traces


@dataclass(frozen=True)
class Calibrated:
    """What one pass of the dense network over an image's samples leaves, for every condition."""

    classifier: Classifier  # dense
    layers: Sequence[Layer]
    copies: Tensor  # uint8 (samples, 3, size, size)
    statistics: Statistics
    subject: Subject


@dataclass(frozen=True)
class Condition:
    """A name, and a function from an image's calibration to the network to explain.

    layers: whose statistics `make` reads; none: it makes the same network for every image. of_other: it is given the
    calibration of another image, as a control.
    """

    name: str
    make: Callable[[Calibrated], nn.Module]
    layers: tuple[str, ...] = ()
    of_other: bool = False


@dataclass(frozen=True)
class TraceSettings:
    """How a condition prunes: the settings of `spade run`, with every function bound."""

    pruner: Callable[..., Tensor]  # (weight, hessian, sparsity, block) -> weight
    sparsity: float | None
    damping: float
    schedule: Callable[..., dict[str, float] | Auto]  # (layers, level) -> share per layer name, or how to find it
    layer_shares: Mapping[str, float]
    of_other: bool = False


def dense() -> Condition:
    """The network as it is."""
    return Condition(DENSE, lambda image: image.classifier.model)


def trace(name: str, settings: TraceSettings, layers: Sequence[Layer]) -> Condition:
    """A trace with shares from a schedule. Raises UserError where the schedule does not fit the network."""
    try:
        shares = schedules.settle(settings.schedule, layers, settings.sparsity, settings.layer_shares)
    except UserError as error:
        raise UserError(f"conditions: {name}: {error}") from None
    make: Callable[[Calibrated], nn.Module]
    if isinstance(shares, Auto):
        make = partial(_found, shares=shares, settings=settings)
    else:
        make = partial(_traced, shares=shares, settings=settings)
    return Condition(name, make, schedules.read_by(shares), settings.of_other)


def _traced(image: Calibrated, shares: Mapping[str, float], settings: TraceSettings) -> nn.Module:
    model = image.classifier.model
    return prune(model, image.layers, shares, image.statistics, settings.pruner, damping=settings.damping).model


def _found(image: Calibrated, shares: Auto, settings: TraceSettings) -> nn.Module:
    judge = judge_of(image.classifier, image.copies, image.subject, image.statistics)
    own = (image.classifier, image.layers, shares, image.statistics, judge)
    return search_of(*own, settings.pruner, settings.damping).trace().model


def calibrated(
    classifier: Classifier,
    layers: Sequence[Layer],
    conditions: Sequence[Condition],
    image: Tensor,
    copies: Tensor,
    calibration: Calibration,
    seed: int,
) -> Calibrated:
    """samples -> hessians, once for all conditions: of every layer that one of them prunes.

    image: uint8 (3, H, W); copies: uint8 (samples, 3, size, size). All these Hessians are in memory at once: the
    conditions share them.
    """
    wanted = {name for condition in conditions for name in condition.layers}
    names = [layer.name for layer in layers if layer.name in wanted]
    store = store_for(classifier, copies, calibration, seed)
    statistics = calibrate(classifier, copies, names, calibration, seed, store)
    return Calibrated(classifier, layers, copies, statistics, subject_of(classifier, image))
