"""What a run is asked for, and the same with every choice made: a user's mistakes surface before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spade_cli.cache import Cache
from spade_cli.devices import pick_device
from spade_cli.errors import SpadeError, UserError
from spade_cli.images.load import read_image
from spade_cli.interpretation import Channel, check_cam_layer, check_channels, check_window, parse_channel
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.networks.question import Question
from spade_cli.pruning import Layer, Pruner, find_layers
from spade_cli.pruning.schedule import Shares
from spade_cli.pruning.solvers.pruner import give_gradient
from spade_cli.report.pictures import OWN
from spade_cli.report.summary import Against, Target
from spade_cli.run.make_trace import Answer, read_answer
from spade_cli.run.trace_settings import TraceSettings

KEPT = ("trace", "report")  # what may be left out of a run's folder


@dataclass(frozen=True)
class RunRequest:
    """What one run is asked for. Every function comes with its own settings bound."""

    image: Path
    model: ModelSource
    output: Path  # the folder that gets <date>/<time>-<image name>
    trace: TraceSettings
    saliency: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # (networks, image, target) -> Explanation
    scale: str = OWN  # of the maps' colours: own or common
    visualize: Callable[..., Tensor] | None = None  # (networks, channels, size, mean, std, seed, on_step) -> pictures
    visualization_targets: Sequence[str | int] = ()  # empty: the explained class
    cache: Cache | None = None  # keeps the dense network's visualizations
    target: str | int = "predicted"  # what `find_question` reads
    device: str = "auto"
    keep: tuple[str, ...] = KEPT  # those of KEPT that are written
    source: str = ""  # the URL of the picture, whose local copy `image` is
    command: str = ""  # the command line, for the record
    config: str = ""  # the composed configuration as YAML, for the record

    @property
    def seed(self) -> int:
        """Of every random number in the run."""
        return self.trace.seed


@dataclass(frozen=True)
class RunPlan:
    """What is decided once for all images of a request: the network, its layers, and the share of each."""

    classifier: Classifier
    layers: list[Layer]
    shares: Shares


@dataclass(frozen=True)
class ImagePlan:
    """One image's request after every choice is made: nothing below this asks the user anything."""

    request: RunRequest
    run_plan: RunPlan
    image: Tensor  # uint8 (3, H, W), as in the file
    view: Tensor  # (1, 3, h, w) in [0, 1]: what the network sees of the image
    answer: Answer  # of the dense network
    channels: dict[str, Channel]  # name -> what to visualize
    notes: tuple[str, ...] = ()  # what the reader should know of the picture

    @property
    def classifier(self) -> Classifier:
        """The dense network."""
        return self.run_plan.classifier

    @property
    def x(self) -> Tensor:
        """The view normalised, (1, 3, h, w), on the device."""
        return self.answer.x

    @property
    def question(self) -> Question:
        """What is asked of the image."""
        return self.answer.question


def plan_request(request: RunRequest) -> ImagePlan:
    """Read the image, load the network and decide everything, in the order in which people look for mistakes."""
    pick_device(request.device)
    image, notes = read_image(request.image, request.source)
    return plan_image(request, plan_run(request), image, notes=notes)


def plan_run(request: RunRequest, classifier: Classifier | None = None) -> RunPlan:
    """Decide what does not depend on the image; the network is loaded if it is not there yet. Raises UserError."""
    if classifier is None:
        classifier = load_on_device(request.model, request.device, request.seed)
    layers = find_layers(classifier.model, classifier.grey())
    check_methods(request.saliency, classifier)
    return RunPlan(classifier, layers, request.trace.settle_shares(layers))


def load_on_device(source: ModelSource, device: str, seed: int) -> Classifier:
    """The network on a device as people name it. Raises UserError for either that is not there."""
    found = pick_device(device)
    classifier = load_model(source, seed=seed)
    return replace(classifier, model=classifier.model.to(found))


def check_methods(methods: Mapping[str, Callable[..., Any]], classifier: Classifier) -> None:
    """Raises UserError where a saliency method's settings do not fit the network."""
    check_cam_layer(methods, classifier.model)
    check_window(methods, classifier.preprocessing.size)


@torch.no_grad()
def plan_image(
    request: RunRequest, plan: RunPlan, image: Tensor, *, rehearse: bool = True, notes: tuple[str, ...] = ()
) -> ImagePlan:
    """The plan of one image, uint8 (3, H, W); `notes` are what reading it found.

    `rehearse` tries the settings once; of many images with the same settings the first is enough.
    """
    classifier = plan.classifier
    answer = read_answer(classifier, image, request.target)
    if rehearse:
        try_settings(request.trace, image, classifier)
    channels = {}
    if request.visualize is not None:
        channels = find_channels(request.visualization_targets or [answer.question], classifier, answer.x)
    return ImagePlan(request, plan, image, classifier.preprocessing.view(image), answer, channels, notes)


def try_pruner(pruner: Pruner, asked: str) -> None:
    """Prune one small layer: finds settings that make no sense and functions of the user's that fail."""
    weight = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])  # (groups, rows, columns)
    with _blame_settings(asked, "check its settings"):
        pruned = give_gradient(pruner, torch.ones_like(weight))(weight, torch.eye(4)[None], 0.5, 2)
    if pruned.shape != weight.shape:
        raise UserError(f"{asked} makes {tuple(pruned.shape)} of {tuple(weight.shape)}: keep the shape")


def try_settings(settings: TraceSettings, image: Tensor, classifier: Classifier) -> None:
    """Augment once and prune one small layer: finds settings that make no sense and functions of the user's that fail.

    What is assumed of the network itself was proven when it was loaded.
    """
    sides, asked = classifier.preprocessing.sides, f"augmentation={settings.augmentation_name}"
    with _blame_settings(asked, "check its settings"):
        samples = replace(settings, sample_count=1).draw_samples(image, classifier.preprocessing)
    if samples.shape != (1, 3, *sides) or samples.dtype != torch.uint8:
        found = f"{samples.dtype} {tuple(samples.shape)}"
        raise UserError(f"{asked} makes {found} of one: return uint8 (samples, 3, {sides[0]}, {sides[1]})")
    try_pruner(settings.pruner, f"pruner={settings.pruner_name}")


@contextmanager
def _blame_settings(asked: str, hint: str) -> Iterator[None]:
    """Whatever fails inside is a UserError about what was asked."""
    try:
        yield
    except SpadeError:
        raise
    except Exception as error:  # whatever torchvision or the user's own code raises about these settings
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{asked} fails ({type(error).__name__}: {reason}); {hint}") from error


def name_classes(question: Question, classifier: Classifier) -> Target:
    """What is asked, with the classes' labels."""
    against = tuple(Against(index, classifier.label(index), weight) for weight, index in question.others)
    return Target(question.index, classifier.label(question.index), against)


def find_channels(targets: Sequence[str | int | Question], classifier: Classifier, x: Tensor) -> dict[str, Channel]:
    """`interpreter.targets` -> what to visualize, by name: a class (index or label), a channel or a direction.

    A contrast of classes is a direction of the output. x: (1, 3, H, W) normalised. Raises UserError for a class, layer
    or channel that is not there.
    """
    found: dict[str, Channel] = {}
    for target in targets:
        if isinstance(target, Question):
            words = name_classes(target, classifier).words
            name = f"{target.index}-{words}" if target.is_class else words
            found[name] = Channel(None, target.index, target.others)
            continue
        if (channel := parse_channel(str(target))) is not None:
            found[f"{channel.layer}-{channel.in_layer}"] = channel
        else:
            index = classifier.class_index(target)
            found[f"{index}-{classifier.label(index)}"] = Channel(None, index)
    check_channels(classifier.model, x, list(found.values()))
    return found
