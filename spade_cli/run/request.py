"""What was asked, and the same with every choice settled: a user's mistakes surface before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spade_cli.devices import device_of, pick_device
from spade_cli.errors import SpadeError, UserError
from spade_cli.images.load import read_image
from spade_cli.interpretation import Channel, check_cam_layer, check_channels, check_window
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.networks.borrow import ask_network
from spade_cli.pruning import Auto, Layer, find_layers, schedule
from spade_cli.run.calibrate import Calibration
from spade_cli.run.find_trace import Subject, check_finite

KEPT = ("trace", "report")  # what may be left out of a run's folder


@dataclass(frozen=True)
class Request:
    """What one run was asked for. Callables are settled by the caller, with their own settings bound."""

    image: Path
    model: ModelSource
    output: Path  # the folder that gets <date>/<time>-<image name>
    augmentation: Callable[..., Tensor]  # (image, samples, preprocessing, seed) -> uint8 (samples, 3, size, size)
    augmentation_name: str
    samples: int
    pruner: Callable[..., Tensor]  # (weight, hessian, sparsity, block) -> weight
    pruner_name: str
    sparsity: float | None  # the level the schedule starts from, 0 to 1; None: the schedule's own
    damping: float
    schedule: Callable[..., dict[str, float] | Auto]  # (layers, level) -> share per layer name, or how to find it
    schedule_name: str
    layer_shares: Mapping[str, float] = field(default_factory=dict)  # dotted name or glob -> share; after the schedule
    calibration: Calibration = field(default_factory=Calibration)
    saliency: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # (network, image, target) -> Explanation
    visualize: Callable[..., Tensor] | None = None  # (model, channels, size, mean, std, seed, on_step) -> pictures
    visualization_targets: Sequence[str | int] = ()  # empty: the explained class
    target: str | int = "predicted"  # "predicted", an index or a label
    seed: int = 0
    device: str = "auto"
    keep: tuple[str, ...] = KEPT  # those of KEPT that are written
    source: str = ""  # the URL of the picture, whose local copy `image` is
    command: str = ""  # the command line, for the record
    config: str = ""  # the composed configuration as YAML, for the record


@dataclass(frozen=True)
class Question:
    """A request after every choice is made: nothing below this asks the user anything."""

    request: Request
    image: Tensor  # uint8 (3, H, W), as in the file
    classifier: Classifier
    view: Tensor  # (1, 3, size, size) in [0, 1]: what the network sees of the image
    x: Tensor  # (1, 3, size, size), the view normalised, on the device
    dense_logits: Tensor  # (classes,)
    target: int
    layers: list[Layer]
    shares: dict[str, float] | Auto
    channels: dict[str, Channel]  # name -> what to visualize
    notes: tuple[str, ...] = ()  # what the reader should know of the picture

    @property
    def subject(self) -> Subject:
        """What the trace is asked to keep."""
        return Subject(self.x, self.dense_logits, self.target)


@dataclass(frozen=True)
class Setting:
    """What is settled once for all images: the network, its layers, and how much of each goes."""

    classifier: Classifier
    layers: list[Layer]
    shares: dict[str, float] | Auto


def decide(request: Request) -> Question:
    """Settle everything that can be the user's mistake, in the order a person would look for it."""
    pick_device(request.device)
    image, notes = read_image(request.image, request.source)
    return ask(request, settle(request), image, notes=notes)


def settle(request: Request, classifier: Classifier | None = None) -> Setting:
    """Load the network, if it is not there yet, and settle what does not depend on the image. Raises UserError."""
    if classifier is None:
        device = pick_device(request.device)
        classifier = load_model(request.model, seed=request.seed)
        classifier = replace(classifier, model=classifier.model.to(device))
    layers = find_layers(classifier.model, classifier.grey())
    check_cam_layer(request.saliency, classifier.model)
    check_window(request.saliency, classifier.preprocessing.size)
    shares = schedule.settle(request.schedule, layers, request.sparsity, request.layer_shares)
    return Setting(classifier, layers, shares)


@torch.no_grad()
def ask(
    request: Request, setting: Setting, image: Tensor, *, rehearse: bool = True, notes: tuple[str, ...] = ()
) -> Question:
    """The question about one image, uint8 (3, H, W); `notes` are what reading it found.

    `rehearse` tries the settings once; of many images with the same settings the first is enough.
    """
    classifier = setting.classifier
    target = None if request.target == "predicted" else classifier.class_index(request.target)
    view = classifier.preprocessing.view(image)
    x = classifier.preprocessing.normalise(view.to(device_of(classifier.model)))
    logits = ask_network(classifier.model, x)[0].cpu()  # (classes,)
    check_finite(logits, classifier)
    target = int(logits.argmax()) if target is None else target
    if rehearse:
        try_settings(request, image, classifier)
    channels = {}
    if request.visualize is not None:
        channels = find_channels(request.visualization_targets or [target], classifier, x)
    layers, shares = setting.layers, setting.shares
    return Question(request, image, classifier, view, x, logits, target, layers, shares, channels, notes)


def try_pruner(pruner: Callable[..., Tensor], asked: str) -> None:
    """One small layer pruned, for settings that make no sense and functions of the user's that fail."""
    weight = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])  # (groups, rows, columns)
    with _tried(asked, "check its settings"):
        pruned = pruner(weight, torch.eye(4)[None], 0.5, 2)
    if pruned.shape != weight.shape:
        raise UserError(f"{asked} makes {tuple(pruned.shape)} of {tuple(weight.shape)}: keep the shape")


def try_settings(request: Request, image: Tensor, classifier: Classifier) -> None:
    """One small try of the augmentation and the pruner: settings that make no sense, functions of the user's that fail.

    What is assumed of the network itself was proven when it was loaded.
    """
    size = classifier.preprocessing.size
    with _tried(f"augmentation={request.augmentation_name}", "check its settings"):
        copies = request.augmentation(image, 1, classifier.preprocessing, request.seed)
    if copies.shape != (1, 3, size, size) or copies.dtype != torch.uint8:
        found = f"{copies.dtype} {tuple(copies.shape)}"
        raise UserError(
            f"augmentation={request.augmentation_name} makes {found} of one: return uint8 (samples, 3, size, size)"
        )
    try_pruner(request.pruner, f"pruner={request.pruner_name}")


@contextmanager
def _tried(asked: str, hint: str) -> Iterator[None]:
    try:
        yield
    except SpadeError:
        raise
    except Exception as error:  # whatever torchvision or the user's own code raises about these settings
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{asked} fails ({type(error).__name__}: {reason}); {hint}") from error


def find_channels(targets: Sequence[str | int], classifier: Classifier, x: Tensor) -> dict[str, Channel]:
    """`interpreter.targets` -> what to visualize, by name: a class (index or label) or `layer:channel`.

    x (1, 3, H, W) normalised. Raises UserError for a class, layer or channel that is not there.
    """
    found: dict[str, Channel] = {}
    for target in targets:
        layer, colon, channel = str(target).rpartition(":")
        if colon and layer and channel.isdecimal():
            found[f"{layer}-{channel}"] = Channel(layer, int(channel))
        else:
            index = classifier.class_index(target)
            found[f"{index}-{classifier.label(index)}"] = Channel(None, index)
    check_channels(classifier.model, x, list(found.values()))
    return found
