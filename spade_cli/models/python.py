"""model=python: a network or a classifier that a user's function returns; `wrap`: a network from a notebook."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.models.build import seed_weights
from spade_cli.models.checkpoints import hash_file, hash_state, load_weights, read_state_dict
from spade_cli.models.classifier import (
    AUTO,
    Classifier,
    ModelSource,
    adjust_preprocessing,
    assume_preprocessing,
    name_arguments,
    read_colour,
    read_size,
)
from spade_cli.models.label_sets import assume_labels
from spade_cli.models.prepare import check_layers_visible, prepare_classifier
from spade_cli.networks.copies import copy_network, unwrap
from spade_cli.networks.dequantise import dequantise_layers
from spade_cli.sizes import Size
from spade_cli.user_functions import call_factory


def wrap(
    model: nn.Module,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    size: Size | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    channels: int | None = None,
    output: str = AUTO,
    logits: str | None = None,
) -> Classifier:
    """A copy of your network, from a notebook, as a classifier; your network is not changed.

    size: the square's side in pixels, or (height, width). mean, std: of each colour, or one number for all, for images
    in 0..1. channels: 3, or 1 for a network of grey images. output: what the scores mean, softmax, sigmoid or auto.
    logits: which entry of what the network returns holds them. Raises UserError for a network that cannot be explained.
    """
    _check_module(model)
    source = ModelSource(
        name or type(unwrap(model)).__name__,
        size=None if size is None else read_size("size", size),
        mean=None if mean is None else read_colour("mean", mean),
        std=None if std is None else read_colour("std", std),
    )
    asked = f"model={source.name}"
    check_layers_visible(unwrap(model), asked)
    network = copy_network(unwrap(model), asked)
    with name_arguments():
        classifier = prepare_classifier(
            _as_classifier(network, source, "in memory"), channels, output, logits, original=model
        )
    if labels is not None:
        return replace(classifier, labels=_check_labels(labels, classifier))
    return assume_labels(classifier)


def _check_module(model: object) -> None:
    if isinstance(model, nn.Module):
        return
    hint = ""
    if isinstance(model, str):
        hint = f"; spade_cli.load_model({model!r}) loads one by name"
    elif callable(model):
        hint = f"; call it and wrap what it returns: spade_cli.wrap({getattr(model, '__name__', 'function')}())"
    kind = "a class" if inspect.isclass(model) else type(model).__name__
    raise UserError(f"wrap takes a torch.nn.Module, not {kind}{hint}")


def _check_labels(labels: Sequence[str], classifier: Classifier) -> tuple[str, ...]:
    count = 1 if isinstance(labels, str) else len(labels)
    if isinstance(labels, str) or count != classifier.classes:
        raise UserError(
            f"labels: {count} given, but {classifier.name} has {classifier.classes} classes; give one a class"
        )
    return tuple(map(str, labels))


def _as_classifier(network: nn.Module, source: ModelSource, weights: str) -> Classifier:
    """A network that brings nothing along: its preprocessing is assumed, its classes are not counted yet."""
    preprocessing, notes = assume_preprocessing(source)
    network, quantised = dequantise_layers(network)
    if quantised:
        count = "its linear layer was" if quantised == 1 else f"its {quantised} linear layers were"
        notes = (
            *notes,
            f"{count} quantised, and made float again: the weights are the same, but inputs are not rounded",
        )
    return Classifier(network, source.name or "", weights, hash_state(network), None, preprocessing, 0, notes)


def load_classifier(source: ModelSource, seed: int) -> Classifier:
    """The network or classifier that the factory returns, with the user's weights, if a file of them is given.

    Raises UserError where the factory returns anything else.
    """
    asked = f"model.factory={source.factory}"
    with seed_weights(seed):
        made = call_factory(source.factory or "", asked)
    if isinstance(made, nn.Module):
        network = unwrap(made)
        check_layers_visible(network, f"{asked} returned a network that cannot be used")
        named = replace(source, name=source.name or asked.rsplit(":", 1)[1])
        classifier = _as_classifier(network, named, "the factory's")
    elif isinstance(made, Classifier):  # it has labels and preprocessing of its own; the user's settings go first
        classifier = replace(made, preprocessing=adjust_preprocessing(made.preprocessing, source))
    else:
        raise UserError(f"{asked} returned {type(made).__name__}: it must return a torch.nn.Module")
    if source.weights in ("default", "none"):  # the factory's own weights stay, unless a file is given
        return classifier
    path = expand_path(source.weights)
    state, notes = read_state_dict(path, classifier.model, source.ema)
    load_weights(classifier.model, state, f"model.weights={path}", asked)
    return replace(classifier, weights=str(path), sha256=hash_file(path), notes=classifier.notes + notes)
