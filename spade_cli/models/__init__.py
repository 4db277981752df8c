"""A name to a classifier: network in eval mode, labels, and how it sees a picture. One file for each source."""

from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.models.classifier import Classifier, ModelSource, Preprocessing
from spade_cli.models.labels import read_labels
from spade_cli.models.prepare import prepare
from spade_cli.models.python import colour, side, wrap

LIBRARIES = ("torchvision", "timm", "huggingface")  # a file of this folder each, with load(source, seed) -> Classifier
DEMO = "demo"  # the bundled network, which a factory makes
DEMO_FACTORY = "spade_cli.world.network:demo_classifier"


def load_model(source: ModelSource | str, *, seed: int = 0, **settings: Any) -> Classifier:
    """Build the network, fill it with its weights, find its labels, and rehearse it; `seed` draws untrained weights.

    `source` is a library's name of a network, or "demo"; `settings` are those of the command line's `model.*`:
    library, factory, weights, labels, size, mean, std, channels, output. Raises UserError for what cannot be.

    >>> load_model("resnet18", weights="none", size=64).preprocessing.size
    64
    """
    source = source_of(source, settings)
    if source.library not in LIBRARIES:
        raise UserError(f"model.library={source.library} is unknown; there are {', '.join(LIBRARIES)}")
    home = import_module(f"{__name__}.{'python' if source.factory else source.library}")
    classifier: Classifier = home.load(source, seed)
    classifier = prepare(classifier, source.channels, source.output)
    labels = classifier.labels
    if source.labels is not None:
        labels = read_labels(expand_path(source.labels), classifier.classes)
    elif labels and len(labels) != classifier.classes:
        labels = None
    return replace(classifier, labels=labels)


def source_of(source: ModelSource | str, settings: dict[str, Any]) -> ModelSource:
    """What a name and settings in Python ask for, as the command line would. Raises UserError for mistakes."""
    if not isinstance(source, ModelSource | str):
        raise UserError(
            f"load_model takes a network's name, not {type(source).__name__}; spade_cli.wrap(network) takes a network"
        )
    known = [field.name for field in fields(ModelSource) if field.name != "name"]
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UserError(f"load_model: {name} is no setting of a network; {hint}there are {', '.join(known)}")
    if isinstance(source, ModelSource):
        return replace(source, **_checked(settings))
    if source == DEMO and "factory" not in settings:
        settings = {**settings, "factory": DEMO_FACTORY}
    return ModelSource(source, **_checked(settings))


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    own = dict(settings)
    own |= {name: colour(name, own[name]) for name in ("mean", "std") if own.get(name) is not None}
    own |= {name: side(name, own[name]) for name in ("size",) if own.get(name) is not None}
    return own | {name: str(own[name]) for name in ("weights", "labels") if own.get(name) is not None}


__all__ = ["LIBRARIES", "Classifier", "ModelSource", "Preprocessing", "load_model", "wrap"]
