"""model=python: a network, or a whole classifier, from a function of the user's own; and networks from a notebook."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from spade_cli.checkpoints import fit, hash_file, hash_state, read_state_dict
from spade_cli.errors import UserError
from spade_cli.factories import make
from spade_cli.models.building import seeded
from spade_cli.models.classifier import Classifier, ModelSource, adjusted, count_classes, unknown_preprocessing
from spade_cli.paths import expanded


def wrap(
    model: nn.Module,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Classifier:
    """A network of your own, from a notebook, as a classifier. It is copied: yours is not changed."""
    source = ModelSource(None, size=size, mean=tuple(mean) if mean else None, std=tuple(std) if std else None)
    preprocessing, notes = unknown_preprocessing(source)
    network = copy.deepcopy(model).eval().float()
    classifier = Classifier(
        network, name or type(model).__name__, "in memory", hash_state(network), None, preprocessing, 0, notes
    )
    classifier = replace(classifier, classes=count_classes(classifier))
    if labels is not None and len(labels) != classifier.classes:
        raise UserError(
            f"labels: {len(labels)} given, but {classifier.name} has {classifier.classes} classes; give one a class"
        )
    return replace(classifier, labels=tuple(labels) if labels is not None else None)


def load(source: ModelSource, seed: int) -> Classifier:
    """What the factory returns as a classifier. UserError where that is none."""
    asked = f"model.factory={source.factory}"
    with seeded(seed):
        made = make(source.factory or "", asked)
    if isinstance(made, nn.Module):
        check_weights(made, asked)
        made = made.float()  # pictures come in float32
        preprocessing, notes = unknown_preprocessing(source)
        name = source.name or asked.rsplit(":", 1)[1]
        classifier = Classifier(made.eval(), name, "the factory's", hash_state(made), None, preprocessing, 0, notes)
    elif isinstance(made, Classifier):  # brings its labels and preprocessing along; what the user set wins
        classifier = replace(made, preprocessing=adjusted(made.preprocessing, source))
    else:
        raise UserError(f"{asked} returned {type(made).__name__}: it must return a torch.nn.Module")
    if source.weights in ("default", "none"):  # a factory settles its own weights, unless a file is given
        return classifier
    path = expanded(source.weights)
    state, notes = read_state_dict(path, classifier.model)
    fit(classifier.model, state, f"model.weights={path}", asked)
    return replace(classifier, weights=str(path), sha256=hash_file(path), notes=classifier.notes + notes)


def check_weights(network: nn.Module, asked: str) -> None:
    """Networks whose weights cannot be read, or whose layers cannot be seen."""
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(f"{asked} returned TorchScript, whose layers are hidden: return the Python network")
    for name, value in network.state_dict().items():
        if isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise UserError(f"{asked}: {name} has no shape yet (a lazy layer): call the network once in the factory")
        if not isinstance(value, Tensor) or value.is_meta or value.is_quantized or value.is_inference():
            raise UserError(f"{asked}: {name} is quantized, of inference mode or empty: return plain weights")
