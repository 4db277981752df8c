"""A name to a classifier: network in eval mode, labels, and how it sees a picture."""

import copy
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from spade_cli.checkpoints import fit, hash_file, hash_state, read_densenet_names, read_state_dict
from spade_cli.errors import UserError
from spade_cli.factories import make
from spade_cli.labels import find_class, read_labels
from spade_cli.paths import expanded

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_CLASSES = 1000
DOWNLOAD_PATIENCE = 20.0  # seconds without a byte; where there is no network, minutes of waiting help nobody
# Branches for training only, which return nothing in eval mode and would be listed as layers.
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


@dataclass(frozen=True)
class ModelSource:
    """Where a network comes from: a torchvision name, or a factory 'package.module:function'."""

    name: str | None
    factory: str | None = None
    weights: str = "default"  # default: torchvision's; none: untrained; else a path
    labels: str | None = None  # path of a text or JSON file
    size: int | None = None  # None: the network's own
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Preprocessing:
    """How the network sees a picture: short side to `resize`, centre crop of `size`, minus `mean`, over `std`."""

    size: int = 224
    resize: int = 256
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: InterpolationMode = InterpolationMode.BILINEAR

    def view(self, image: Tensor) -> Tensor:
        """The part of the picture that the network sees: uint8 (3, H, W) -> float (1, 3, size, size) in 0..1."""
        resized = F.resize(image, [self.resize], interpolation=self.interpolation, antialias=True)
        return F.center_crop(resized, [self.size])[None].float() / 255  # (1, 3, size, size)

    def normalise(self, x: Tensor) -> Tensor:
        """What the network is fed: (N, 3, H, W) in 0..1 -> the same shape around zero."""
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std


@dataclass(frozen=True)
class Classifier:
    """A network in eval mode with what is needed to ask it about a picture."""

    model: nn.Module
    name: str
    weights: str  # 'IMAGENET1K_V2', 'none' or a path
    sha256: str | None  # of the file, or of the values where there was none; None: untrained
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    classes: int
    notes: tuple[str, ...] = ()  # what was assumed and the user should know

    def label(self, index: int) -> str:
        """The class's name, 'class 3' where names are not known."""
        return self.labels[index] if self.labels else f"class {index}"

    def class_index(self, asked: str | int) -> int:
        """A label or an index as an index. Raises UserError for what the network does not have."""
        return find_class(asked, self.labels, self.classes)


def load_model(source: ModelSource | str, *, seed: int = 0) -> Classifier:
    """Build the network, fill it with its weights and find its labels; `seed` draws the weights of an untrained one."""
    source = ModelSource(source) if isinstance(source, str) else source
    classifier = _from_factory(source, seed) if source.factory else _from_torchvision(source, seed)
    classifier = replace(classifier, classes=_count_classes(classifier))
    labels = classifier.labels
    if source.labels is not None:
        labels = read_labels(expanded(source.labels), classifier.classes)
    elif labels and len(labels) != classifier.classes:
        labels = None
    return replace(classifier, labels=labels)


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
    preprocessing, notes = _unknown_preprocessing(source)
    network = copy.deepcopy(model).eval().float()
    classifier = Classifier(
        network, name or type(model).__name__, "in memory", hash_state(network), None, preprocessing, 0, notes
    )
    classifier = replace(classifier, classes=_count_classes(classifier))
    if labels is not None and len(labels) != classifier.classes:
        raise UserError(
            f"labels: {len(labels)} given, but {classifier.name} has {classifier.classes} classes; give one a class"
        )
    return replace(classifier, labels=tuple(labels) if labels is not None else None)


def _from_torchvision(source: ModelSource, seed: int) -> Classifier:
    name = source.name or ""
    known = torchvision.models.list_models(module=torchvision.models)  # classifiers only
    if name not in known:
        near = get_close_matches(name.lower(), known, n=3) or known[:3]
        raise UserError(f"model.name={name} is no classifier of torchvision; close: {', '.join(near)}")
    official = torchvision.models.get_model_weights(name).DEFAULT
    if source.weights == "default":
        network, sha256 = _download(name, official)
        weights = official.name
    elif source.weights == "none":
        network, sha256, weights = _build(name, seed, **_no_branches(name)), None, "none"
    else:
        path = expanded(source.weights)
        network, sha256, weights = _from_checkpoint(name, path), hash_file(path), str(path)
    transforms = official.transforms()
    own = Preprocessing(
        transforms.crop_size[0],
        transforms.resize_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation,
    )
    labels = tuple(official.meta["categories"])
    return Classifier(network.eval(), name, weights, sha256, labels, _adjusted(own, source), 0)


def _download(name: str, official: Any) -> tuple[nn.Module, str | None]:
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_PATIENCE)
    try:
        with _quiet():
            network = torchvision.models.get_model(name, weights=official)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's word for a file that came damaged
        raise UserError(
            f"model.weights=default: torchvision's weights of {name} could not be downloaded ({error}); "
            "give model.weights=PATH, or model.weights=none for an untrained network"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)
    file = Path(torch.hub.get_dir(), "checkpoints", official.url.rsplit("/", 1)[1])
    return network, hash_file(file) if file.exists() else hash_state(network)


def _from_checkpoint(name: str, path: Path) -> nn.Module:
    state = read_densenet_names(read_state_dict(path))
    branches = AUXILIARY.get(name, ())
    full = any(key.startswith(branches) for key in state) if branches else False
    settings: dict[str, Any] = {"aux_logits": full, "init_weights": False} if branches else {}
    network = _build(name, 0, **settings)
    # The head is the last parameter with one row a class; the checkpoint says how many classes there are.
    head = [key for key, value in network.state_dict().items() if value.dim() and value.shape[0] == IMAGENET_CLASSES][
        -1
    ]
    classes = state[head].shape[0] if head in state and state[head].dim() else IMAGENET_CLASSES
    if classes != IMAGENET_CLASSES:
        network = _build(name, 0, num_classes=classes, **settings)
    elif branches:
        # torchvision's own weights of these expect TensorFlow's input range
        network.transform_input = True  # type: ignore[assignment]
    fit(network, state, f"model.weights={path}", f"model.name={name}")
    for branch in branches:
        setattr(network, branch, None)
    if branches:
        network.aux_logits = False  # type: ignore[assignment]
    return network


def _no_branches(name: str) -> dict[str, Any]:
    return {"aux_logits": False} if name in AUXILIARY else {}


def _build(name: str, seed: int, **settings: Any) -> nn.Module:
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torchvision.models.get_model(name, weights=None, **settings)


@contextmanager
def _quiet() -> Iterator[None]:
    """Builders warn about defaults of theirs that no user of this program can set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _from_factory(source: ModelSource, seed: int) -> Classifier:
    asked = f"model.factory={source.factory}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = make(source.factory or "", asked)
    if isinstance(made, nn.Module):
        _check_weights(made, asked)
        made = made.float()  # pictures come in float32
        preprocessing, notes = _unknown_preprocessing(source)
        name = source.name or asked.rsplit(":", 1)[1]
        classifier = Classifier(made.eval(), name, "the factory's", hash_state(made), None, preprocessing, 0, notes)
    elif isinstance(made, Classifier):  # brings its labels and preprocessing along; what the user set wins
        classifier = replace(made, preprocessing=_adjusted(made.preprocessing, source))
    else:
        raise UserError(f"{asked} returned {type(made).__name__}: it must return a torch.nn.Module")
    if source.weights in ("default", "none"):  # a factory settles its own weights, unless a file is given
        return classifier
    path = expanded(source.weights)
    fit(classifier.model, read_state_dict(path), f"model.weights={path}", asked)
    return replace(classifier, weights=str(path), sha256=hash_file(path))


def _check_weights(network: nn.Module, asked: str) -> None:
    """Networks whose weights cannot be read, or whose layers cannot be seen."""
    if isinstance(network, torch.jit.ScriptModule):
        raise UserError(f"{asked} returned TorchScript, whose layers are hidden: return the Python network")
    for name, value in network.state_dict().items():
        if isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise UserError(f"{asked}: {name} has no shape yet (a lazy layer): call the network once in the factory")
        if not isinstance(value, Tensor) or value.is_meta or value.is_quantized or value.is_inference():
            raise UserError(f"{asked}: {name} is quantized, of inference mode or empty: return plain weights")


def _unknown_preprocessing(source: ModelSource) -> tuple[Preprocessing, tuple[str, ...]]:
    """ImageNet's, unless the user says otherwise; with a size of the user's own the whole short side is seen."""
    known = Preprocessing() if source.size is None else Preprocessing(size=source.size, resize=source.size)
    open_questions = [word for word in ("size", "mean", "std") if getattr(source, word) is None]
    if not open_questions:
        return _adjusted(known, source), ()
    assumed = {
        "size": "224 pixels from a short side of 256",
        "mean": "ImageNet's mean",
        "std": "ImageNet's standard deviation",
    }
    keys = ", ".join(f"model.{word}" for word in open_questions)
    listed = ", ".join(assumed[word] for word in open_questions)
    note = f"preprocessing assumed: {listed}; set {keys} if it was trained otherwise"
    return _adjusted(known, source), (note,)


def _adjusted(own: Preprocessing, source: ModelSource) -> Preprocessing:
    """The network's own preprocessing with the user's numbers; another size crops the same share of the picture."""
    size = source.size or own.size
    return replace(
        own,
        size=size,
        resize=round(own.resize * size / own.size),
        mean=source.mean or own.mean,
        std=source.std or own.std,
    )


def _count_classes(classifier: Classifier) -> int:
    """One pass over a grey picture: it also shows whether the network takes pictures of this size at all."""
    size = classifier.preprocessing.size
    parameter = next(classifier.model.parameters(), torch.zeros(()))
    x = torch.zeros(1, 3, size, size, dtype=torch.float32, device=parameter.device)
    try:
        with torch.no_grad():
            output = classifier.model(x)
    except Exception as error:  # whatever a user's network raises, it is about this input
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{classifier.name} does not take a picture of 3 x {size} x {size} ({reason}); set model.size, or mend it"
        ) from error
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != 1 or not output.shape[1]:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"{classifier.name} returns {found} for one picture: a classifier returns one row of class scores"
        )
    return output.shape[1]
