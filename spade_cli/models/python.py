"""model=python: a network, or a whole classifier, from a function of the user's own; and networks from a notebook."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.models.building import seeded
from spade_cli.models.checkpoints import hash_file, hash_state, load_weights, read_state_dict
from spade_cli.models.classifier import Classifier, ModelSource, adjusted, unknown_preprocessing
from spade_cli.models.outputs import AUTO
from spade_cli.models.prepare import check_layers_visible, prepare
from spade_cli.networks.copies import copy_network, unwrap
from spade_cli.user_functions import call_factory

MOST_MEAN = 1.0  # pictures are in 0..1; a mean of 123 belongs to pictures of 0..255


def wrap(
    model: nn.Module,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    channels: int | None = None,
    output: str = AUTO,
) -> Classifier:
    """A network of your own, from a notebook, as a classifier. It is copied: yours is not changed.

    size: the square's side in pixels. mean, std: of each colour, or one number for all, of pictures in 0..1. channels:
    3, or 1 for a network of grey pictures. output: what the scores mean, softmax, sigmoid or auto. Raises UserError for
    a network that cannot be explained.
    """
    if not isinstance(model, nn.Module):
        hint = f"; spade_cli.load_model({model!r}) loads one by name" if isinstance(model, str) else ""
        raise UserError(f"wrap takes a torch.nn.Module, not {type(model).__name__}{hint}")
    asked = f"model={name or type(unwrap(model)).__name__}"
    check_layers_visible(unwrap(model), asked)
    source = ModelSource(
        None,
        size=None if size is None else side("size", size),
        mean=None if mean is None else colour("mean", mean),
        std=None if std is None else colour("std", std),
    )
    preprocessing, notes = unknown_preprocessing(source)
    network = copy_network(unwrap(model), asked)
    classifier = Classifier(
        network, asked.removeprefix("model="), "in memory", hash_state(network), None, preprocessing, 0, notes
    )
    classifier = prepare(classifier, channels, output, original=model)
    if labels is not None and (isinstance(labels, str) or len(labels) != classifier.classes):
        raise UserError(
            f"labels: {1 if isinstance(labels, str) else len(labels)} given, but {classifier.name} has "
            f"{classifier.classes} classes; give one a class"
        )
    return replace(classifier, labels=tuple(map(str, labels)) if labels is not None else None)


def colour(key: str, value: Any) -> tuple[float, ...]:
    """One number for all colours, or three. Raises UserError for anything else, and for pictures of another range."""
    parts = tuple(value) if isinstance(value, list | tuple) else (value, value, value)
    good = [isinstance(part, int | float) and not isinstance(part, bool) and math.isfinite(part) for part in parts]
    if len(parts) != 3 or not all(good):
        raise UserError(f"{key}={value} is not one number or three; write for example {key}=(0.5, 0.5, 0.5)")
    if max(map(abs, parts)) > MOST_MEAN or (key == "std" and min(parts) <= 0):
        raise UserError(f"{key}={value} is not for pictures in 0..1; divide what is meant for 0..255 by 255")
    return tuple(float(part) for part in parts)


def side(key: str, value: Any) -> int:
    """A square's side in pixels; two equal sides are one. Raises UserError for anything else."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    found = next(iter(sides)) if len(sides) == 1 else None
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise UserError(f"{key}={value} is not the side of a square in pixels; write for example {key}=224")
    return found


def load(source: ModelSource, seed: int) -> Classifier:
    """What the factory returns as a classifier. UserError where that is none."""
    asked = f"model.factory={source.factory}"
    with seeded(seed):
        made = call_factory(source.factory or "", asked)
    if isinstance(made, nn.Module):
        made = unwrap(made)
        check_layers_visible(made, f"{asked} returned a network that cannot be used")
        preprocessing, notes = unknown_preprocessing(source)
        name = source.name or asked.rsplit(":", 1)[1]
        classifier = Classifier(made, name, "the factory's", hash_state(made), None, preprocessing, 0, notes)
    elif isinstance(made, Classifier):  # brings its labels and preprocessing along; what the user set wins
        classifier = replace(made, preprocessing=adjusted(made.preprocessing, source))
    else:
        raise UserError(f"{asked} returned {type(made).__name__}: it must return a torch.nn.Module")
    if source.weights in ("default", "none"):  # a factory settles its own weights, unless a file is given
        return classifier
    path = expand_path(source.weights)
    state, notes = read_state_dict(path, classifier.model)
    load_weights(classifier.model, state, f"model.weights={path}", asked)
    return replace(classifier, weights=str(path), sha256=hash_file(path), notes=classifier.notes + notes)
