"""A name to a classifier: network in eval mode, labels, and how it sees a picture. One file for each source."""

from dataclasses import replace
from importlib import import_module

from spade_cli.errors import UserError
from spade_cli.labels import read_labels
from spade_cli.models.classifier import Classifier, ModelSource, Preprocessing, count_classes
from spade_cli.models.factory import wrap
from spade_cli.paths import expanded

LIBRARIES = ("torchvision", "timm", "huggingface")  # a file of this folder each, with load(source, seed) -> Classifier


def load_model(source: ModelSource | str, *, seed: int = 0) -> Classifier:
    """Build the network, fill it with its weights and find its labels; `seed` draws the weights of an untrained one."""
    source = ModelSource(source) if isinstance(source, str) else source
    if source.library not in LIBRARIES:
        raise UserError(f"model.library={source.library} is unknown; there are {', '.join(LIBRARIES)}")
    home = import_module(f"{__name__}.{'factory' if source.factory else source.library}")
    classifier: Classifier = home.load(source, seed)
    classifier = replace(classifier, classes=count_classes(classifier))
    labels = classifier.labels
    if source.labels is not None:
        labels = read_labels(expanded(source.labels), classifier.classes)
    elif labels and len(labels) != classifier.classes:
        labels = None
    return replace(classifier, labels=labels)


__all__ = ["LIBRARIES", "Classifier", "ModelSource", "Preprocessing", "load_model", "wrap"]
