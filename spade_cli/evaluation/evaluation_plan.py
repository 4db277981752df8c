"""What an evaluation was asked for, and the same with every choice settled before anything is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from spade_cli.devices import pick_device
from spade_cli.errors import UserError
from spade_cli.evaluation import data as datasets
from spade_cli.evaluation.conditions import DENSE, SPARSE_FC, Condition, TraceSettings, dense, trace
from spade_cli.evaluation.data import Data
from spade_cli.evaluation.measures.insertion import KINDS
from spade_cli.evaluation.sparse_fc import check_last_layer
from spade_cli.interpretation import check_cam_layer, check_window
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.pruning import Layer, find_layers
from spade_cli.run.calibrate import Calibration
from spade_cli.run.request import try_pruner
from spade_cli.world import CLASSES

FAMILIES = ("localisation", "insertion", "fidelity", "sanity", "concepts")
FIXED, BEST = "fixed", "best"  # aggregations of a map: the table's, or the paper's better of two


@dataclass(frozen=True)
class EvaluationRequest:
    """What `spade eval` was asked for. Callables are settled by the caller, with their own settings bound."""

    data: str  # "world" or a folder
    model: ModelSource
    out: Path
    conditions: Mapping[str, TraceSettings | None]  # by name; None: dense or sparse_fc
    augmentation: Callable[..., Tensor]  # (image, samples, preprocessing, seed) -> uint8 (samples, 3, size, size)
    samples: int
    saliency: Mapping[str, Callable[..., Any]]  # (network, image, target) -> Explanation
    visualize: Callable[..., Tensor] | None = None  # (model, channels, size, mean, std, seed) -> pictures
    metrics: tuple[str, ...] = ("localisation", "insertion", "fidelity")
    curves: tuple[str, ...] = KINDS  # those of insertion and deletion that are drawn
    count: int | None = None  # None: all of a folder
    trojan_share: float = 0.5  # of the world's pictures
    aggregation: str = FIXED
    tolerance: int = 15  # pixels, of the pointing game
    held_out: int = 64  # augmentations that fidelity is measured on
    margin: float = 0.1  # of the concept probe's probabilities: less is undecided
    probe_pictures: int = 150  # of each concept, that the probe learns from
    sparse_fc_pictures: int = 2000  # of the world, that Sparse FC is fitted on
    calibration: Calibration = field(default_factory=Calibration)
    seed: int = 0
    device: str = "auto"
    command: str = ""  # the command line, for the record
    arguments: tuple[str, ...] = ()  # the same in words, to go on from
    settings: Mapping[str, Any] = field(default_factory=dict)  # the composed configuration, for the record


@dataclass(frozen=True)
class Plan:
    """A request after every choice is made."""

    request: EvaluationRequest
    classifier: Classifier
    layers: list[Layer]
    conditions: tuple[Condition, ...]  # dense first; sparse_fc is fitted later
    data: Data


def decide(request: EvaluationRequest) -> Plan:
    """Settle everything that can be the user's mistake. Raises UserError."""
    device = pick_device(request.device)
    classifier = load_model(request.model, seed=request.seed)
    classifier = replace(classifier, model=classifier.model.to(device))
    layers = find_layers(classifier.model, classifier.grey())
    check_cam_layer(request.saliency, classifier.model)
    check_window(request.saliency, classifier.preprocessing.size)
    conditions = settle_conditions(request.conditions, layers, classifier)
    return Plan(request, classifier, layers, conditions, find_data(request, classifier))


def settle_conditions(
    asked: Mapping[str, TraceSettings | None], layers: Sequence[Layer], classifier: Classifier
) -> tuple[Condition, ...]:
    """Each condition by its name, dense first: everything is compared with it. Sparse FC's network comes later."""
    conditions = [dense()]
    for name, settings in asked.items():
        if name == SPARSE_FC:
            check_last_layer(classifier)
            conditions.append(Condition(SPARSE_FC, _not_fitted))
        elif settings is not None:
            try_pruner(settings.pruner, f"conditions: {name}")
            conditions.append(trace(name, settings, layers))
    return tuple(conditions)


def _not_fitted(_: object) -> Any:
    raise AssertionError(f"{SPARSE_FC} is fitted before the first image")


def find_data(request: EvaluationRequest, classifier: Classifier) -> Data:
    """The examples, and whether what is to be measured can be measured on them."""
    of_maps = [name for name in request.metrics if name in ("localisation", "insertion")]
    if of_maps and not request.saliency:
        raise UserError(f"metrics: {of_maps[0]} is measured on saliency maps; give interpreter=all or saliency")
    if "concepts" in request.metrics and request.visualize is None:
        raise UserError("metrics: concepts are read from feature visualizations; give interpreter=all or visualization")
    if request.data == "world":
        if classifier.classes != len(CLASSES):
            raise UserError(
                f"data=world is for networks with its {len(CLASSES)} classes, and model={classifier.name} has "
                f"{classifier.classes}; take model=demo, or data=FOLDER"
            )
        return datasets.world(request.count or 100, request.trojan_share, request.seed)
    if "concepts" in request.metrics:
        raise UserError(f"metrics: concepts are known of data=world only, not of data={request.data}; leave them out")
    folder = Path(request.data)
    return datasets.folder(folder, request.out, request.count, request.seed, classifier)


__all__ = [
    "BEST",
    "DENSE",
    "FAMILIES",
    "FIXED",
    "EvaluationRequest",
    "Plan",
    "decide",
    "find_data",
    "settle_conditions",
]
