"""What was asked, and the same with every choice settled: a user's mistakes surface before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spade_cli import explaining
from spade_cli.devices import device_of, pick_device
from spade_cli.errors import SpadeError
from spade_cli.images import load_image
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.pruning import Layer, find_layers, schedule


@dataclass(frozen=True)
class Request:
    """What one run was asked for. Callables are settled by the caller, with their own settings bound."""

    image: Path
    model: ModelSource
    output: Path  # the folder that gets <date>/<time>-<image name>
    augmentation: Callable[[Tensor, int, int, int], Tensor]  # (image, samples, size, seed) -> samples
    augmentation_name: str
    samples: int
    pruner: Callable[..., Tensor]  # (weight, hessian, sparsity, block) -> weight
    pruner_name: str
    sparsity: float  # the level the schedule starts from, 0 to 1
    damping: float
    schedule: Callable[..., dict[str, float]]  # (layers, level) -> share per layer name
    schedule_name: str
    layer_shares: Mapping[str, float] = field(default_factory=dict)  # dotted name or glob -> share; after the schedule
    rows_per_column: int | None = 16  # None: every position
    batch_size: int = 32
    saliency: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # (network, image, target) -> Explanation
    visualize: Callable[..., Tensor] | None = None  # (model, channels, size, mean, std, seed, on_step) -> pictures
    visualization_targets: Sequence[str | int] = ()  # empty: the explained class
    target: str | int = "predicted"  # "predicted", an index or a label
    seed: int = 0
    device: str = "auto"
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
    shares: dict[str, float]
    channels: dict[str, explaining.Channel]  # name -> what to visualize


@torch.no_grad()
def decide(request: Request) -> Question:
    """Settle everything that can be the user's mistake, in the order a person would look for it."""
    device = pick_device(request.device)
    image = load_image(request.image)
    classifier = load_model(request.model, seed=request.seed)
    classifier = replace(classifier, model=classifier.model.to(device))
    layers = find_layers(classifier.model)
    shares = schedule.override(layers, request.schedule(layers, request.sparsity), request.layer_shares)
    target = None if request.target == "predicted" else classifier.class_index(request.target)
    view = classifier.preprocessing.view(image)
    x = classifier.preprocessing.normalise(view.to(device_of(classifier.model)))
    logits = classifier.model(x)[0].cpu()  # (classes,)
    if not torch.isfinite(logits).all():
        raise SpadeError(
            f"model={classifier.name}: it answers this image with NaN or infinite values; check its weights, "
            "model.mean and model.std"
        )
    target = int(logits.argmax()) if target is None else target
    channels = {}
    if request.visualize is not None:
        channels = explaining.channels(request.visualization_targets or [target], classifier, x)
    return Question(request, image, classifier, view, x, logits, target, layers, shares, channels)
