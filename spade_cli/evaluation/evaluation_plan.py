"""What an evaluation is asked for, and the same with every choice made, before anything is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from spade_cli.cache import Cache
from spade_cli.errors import UserError
from spade_cli.evaluation import data as datasets
from spade_cli.evaluation.conditions import (
    SPARSE_FC,
    Condition,
    DenseCondition,
    Networks,
    TraceCondition,
    dense_condition,
    trace_condition,
)
from spade_cli.evaluation.data import Data
from spade_cli.evaluation.measures.insertion import KINDS
from spade_cli.evaluation.mosaics import mosaics
from spade_cli.evaluation.sparse_fc import check_last_layer
from spade_cli.interpretation import takes_image
from spade_cli.models import Classifier, ModelSource
from spade_cli.pruning import Layer, find_layers
from spade_cli.run.make_trace import CalibratedImage
from spade_cli.run.request import check_methods, load_on_device, try_pruner
from spade_cli.run.trace_settings import TraceSettings
from spade_cli.world import CLASSES

FAMILIES = ("localisation", "insertion", "fidelity", "sanity", "concepts")
FROM_NOISE = "give interpreter.visualization=spectrum or lucent"
FIXED, BEST = "fixed", "best"  # aggregations of a map: the table's, or the paper's better of two


@dataclass(frozen=True)
class EvaluationRequest:
    """What `spade eval` is asked for. Every function comes with its own settings bound."""

    data: str  # "world" or a folder
    model: ModelSource
    out: Path
    trace: TraceSettings  # of all conditions, but for their pruners and schedules
    conditions: Mapping[str, TraceCondition | DenseCondition | None]  # by name; None: dense or sparse_fc
    saliency: Mapping[str, Callable[..., Any]]  # (networks, image, target) -> Explanation
    visualize: Callable[..., Tensor] | None = None  # (networks, channels, size, mean, std, seed) -> pictures
    cache: Cache | None = None  # keeps visualizations of networks that are the same for every image
    metrics: tuple[str, ...] = ("localisation", "insertion", "fidelity")
    curves: tuple[str, ...] = KINDS  # those of insertion and deletion that are drawn
    fills: tuple[str, ...] = ("mean",)  # what removed pixels get, by name
    mosaic: bool = False  # four pictures in one
    controls: tuple[str, ...] = ()  # maps that know nothing of the network, measured beside the methods
    count: int | None = None  # None: all of a folder
    trojan_share: float = 0.5  # of the world's pictures
    aggregation: str = FIXED
    tolerance: int = 15  # pixels, of the pointing game
    held_out: int = 64  # augmentations that fidelity is measured on
    reader_pictures: int = 150  # of each concept and symbol, that the reader learns from
    twin: ModelSource | None = None  # the network before its Trojans were implanted, for concepts
    sparse_fc_pictures: int = 2000  # of the world, that Sparse FC is fitted on
    device: str = "auto"
    command: str = ""  # the command line, for the record
    arguments: tuple[str, ...] = ()  # the same in words, for resume=
    settings: Mapping[str, Any] = field(default_factory=dict)  # the composed configuration, for the record

    @property
    def seed(self) -> int:
        """Of every random number in the evaluation."""
        return self.trace.seed


@dataclass(frozen=True)
class EvaluationPlan:
    """A request after every choice is made."""

    request: EvaluationRequest
    classifier: Classifier
    layers: list[Layer]
    conditions: tuple[Condition, ...]  # dense first; sparse_fc is fitted later
    data: Data
    twin: Classifier | None = None  # the network before its Trojans were implanted

    @property
    def calibrated_layers(self) -> list[str]:
        """Every layer that one of the conditions prunes, in the network's order: their statistics are shared."""
        wanted = {name for condition in self.conditions for name in (*condition.layers, *condition.head)}
        return [layer.name for layer in self.layers if layer.name in wanted]


def plan_evaluation(request: EvaluationRequest) -> EvaluationPlan:
    """Decide everything that can be the user's mistake. Raises UserError."""
    classifier = load_on_device(request.model, request.device, request.seed)
    layers = find_layers(classifier.model, classifier.grey())
    check_methods(request.saliency, classifier)
    conditions = make_conditions(request.conditions, layers, classifier)
    twin = load_twin(request, classifier)
    return EvaluationPlan(request, classifier, layers, conditions, find_data(request, classifier), twin)


def load_twin(request: EvaluationRequest, classifier: Classifier) -> Classifier | None:
    """The network before its Trojans were implanted. Raises UserError where it is the same, or nothing would use it."""
    if request.twin is None:
        return None
    if "concepts" not in request.metrics:
        raise UserError("twin= reads visualizations; add concepts to metrics, or leave twin out")
    twin = load_on_device(request.twin, request.device, request.seed)
    if twin.sha256 == classifier.sha256:
        raise UserError(
            f"twin={request.twin.weights} has the weights of the network itself; give those from before the Trojans"
        )
    return twin


def make_conditions(
    asked: Mapping[str, TraceCondition | DenseCondition | None], layers: Sequence[Layer], classifier: Classifier
) -> tuple[Condition, ...]:
    """Each condition by its name, dense first: everything is compared with it. Sparse FC's network comes later.

    Conditions of the same settings get the same `make`.
    """
    conditions = [dense_condition()]
    makes: dict[int, Callable[[CalibratedImage], Networks]] = {}
    for name, condition in asked.items():
        if name == SPARSE_FC:
            check_last_layer(classifier)
            conditions.append(Condition(SPARSE_FC, _refuse_unfitted))
        elif isinstance(condition, DenseCondition):
            conditions.append(dense_condition(name, condition.smoothing))
        elif condition is not None:
            try_pruner(condition.settings.pruner, f"conditions: {name}")
            made = trace_condition(name, condition, layers)
            conditions.append(replace(made, make=makes.setdefault(id(condition.settings), made.make)))
    return tuple(conditions)


def _refuse_unfitted(_: object) -> NoReturn:
    raise AssertionError(f"{SPARSE_FC} is fitted before the first image")


def find_data(request: EvaluationRequest, classifier: Classifier) -> Data:
    """The examples. Raises UserError where one of the metrics cannot be measured on them."""
    of_maps = [name for name in request.metrics if name in ("localisation", "insertion")]
    if of_maps and not request.saliency:
        raise UserError(f"metrics: {of_maps[0]} is measured on saliency maps; give interpreter=all or saliency")
    if "concepts" in request.metrics and request.visualize is None:
        raise UserError("metrics: concepts are read from feature visualizations; give interpreter=all or visualization")
    if request.visualize is not None and takes_image(request.visualize) and "concepts" in request.metrics:
        raise UserError(f"metrics: concepts are read from visualizations of noise; {FROM_NOISE}")
    if request.mosaic and "concepts" in request.metrics:
        raise UserError("mosaic=true shows four pictures at once, and concepts are of one; leave one of both out")

    def compose(data: Data) -> Data:
        return mosaics(data, classifier) if request.mosaic else data

    if request.data == "world":
        if classifier.classes != len(CLASSES):
            raise UserError(
                f"data=world is for networks with its {len(CLASSES)} classes, and model={classifier.name} has "
                f"{classifier.classes}; take model=demo, or data=FOLDER"
            )
        return compose(datasets.world(request.count or 100, request.trojan_share, request.seed))
    if "concepts" in request.metrics and request.twin is None:
        raise UserError(
            f"metrics: the reader of concepts knows data=world only, not data={request.data}; leave them out, or give "
            "twin=WEIGHTS of the network before its Trojans were implanted"
        )
    folder = Path(request.data)
    return compose(datasets.folder(folder, request.out, request.count, request.seed, classifier))
