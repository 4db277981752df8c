"""A name -> a classifier: network in eval mode, labels, and how it sees an image. One file for each source."""

from contextlib import nullcontext
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.models.classifier import (
    AUTO,
    Classifier,
    ModelSource,
    Preprocessing,
    name_arguments,
    read_colour,
    read_size,
)
from spade_cli.models.label_sets import LABEL_SETS, assume_labels
from spade_cli.models.labels import read_labels
from spade_cli.models.prepare import prepare_classifier
from spade_cli.models.python import wrap
from spade_cli.networks.scores import Output

# a file of this folder each, with load_classifier(source, seed)
LIBRARIES = ("torchvision", "timm", "huggingface", "clip", "openclip")
ZERO_SHOT = ("clip", "openclip")  # those whose classes are the user's prompts
DEMO = "demo"  # the bundled network, which a factory makes
DEMO_FACTORY = "spade_cli.world.network:demo_classifier"


def load_model(source: ModelSource | str, *, seed: int = 0, **settings: Any) -> Classifier:
    """Build the network, load its weights, find its labels, and rehearse it; `seed` draws untrained weights.

    `source` is a network's name in its library, or "demo"; `settings` are those of the command line's `model.*`:
    library, factory, weights, labels, size, mean, std, channels, output, logits, ema, prompts. Raises UserError where
    one is wrong.

    >>> load_model("resnet18", weights="none", size=64).preprocessing.size
    64
    """
    with name_arguments() if isinstance(source, str) else nullcontext():
        return _load_model(make_source(source, settings), seed)


def make_source(source: ModelSource | str, settings: dict[str, Any]) -> ModelSource:
    """A network's name and settings, given in Python, as a source. Raises UserError for mistakes."""
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
    given = {name: value for name, value in settings.items() if value is not None}
    checks = {"mean": read_colour, "std": read_colour, "size": read_size}
    checked = settings | {name: check(name, given[name]) for name, check in checks.items() if name in given}
    if isinstance(given.get("prompts"), str):
        raise UserError(f"model.prompts={given['prompts']!r} is one text; give a list, such as ['a cat', 'a dog']")
    if "prompts" in given:
        checked["prompts"] = tuple(map(str, given["prompts"]))
    checked |= {name: str(given[name]) for name in ("weights", "labels") if name in given}
    if isinstance(source, ModelSource):
        return replace(source, **checked)
    return ModelSource(source, **({"factory": DEMO_FACTORY} if source == DEMO else {}) | checked)


def _load_model(source: ModelSource, seed: int) -> Classifier:
    if source.library not in LIBRARIES:
        raise UserError(f"model.library={source.library} is unknown; there are {', '.join(LIBRARIES)}")
    home = import_module(f"{__name__}.{'python' if source.factory else source.library}")
    loaded: Classifier = home.load_classifier(source, seed)
    if source.prompts and source.library not in ZERO_SHOT:
        raise UserError(
            f"model.prompts: {loaded.name} has classes of its own; model=clip and model=openclip take prompts"
        )
    output = loaded.output if source.output == AUTO and loaded.output is Output.SIGMOID else source.output
    classifier = prepare_classifier(loaded, source.channels, output, source.logits)
    if source.labels is not None:
        return replace(classifier, labels=_find_labels(source.labels, classifier.classes))
    if classifier.labels and len(classifier.labels) != classifier.classes:
        classifier = replace(classifier, labels=None)
    return assume_labels(classifier)


def _find_labels(asked: str, classes: int) -> tuple[str, ...]:
    """The names in a file, or those of a well-known data set. Raises UserError for any other number of them."""
    path = expand_path(asked)
    if asked not in LABEL_SETS or path.exists():
        return read_labels(path, classes)
    labels = LABEL_SETS[asked]
    if len(labels) != classes:
        raise UserError(f"model.labels={asked} names {len(labels)} classes, but the network has {classes}")
    return labels
