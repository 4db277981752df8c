"""model=torchvision: every classification network of torchvision, its weights, labels and preprocessing."""

import socket
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from spade_cli.errors import UserError
from spade_cli.files import expand_path
from spade_cli.models.build import count_classes_in, mute_libraries, seed_weights
from spade_cli.models.checkpoints import hash_file, hash_state, load_weights, read_state_dict
from spade_cli.models.classifier import Classifier, ModelSource, Preprocessing, adjust_preprocessing
from spade_cli.sizes import key_size

IMAGENET_CLASSES = 1000
DOWNLOAD_PATIENCE = 20.0  # seconds without a byte; longer waiting does not help where there is no network
# Branches for training only: they do nothing in eval mode, and would be listed as layers.
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def load_classifier(source: ModelSource, seed: int) -> Classifier:
    """The classifier of that name. Raises UserError for an unknown name, and for weights that cannot be loaded."""
    name = source.name or ""
    known = torchvision.models.list_models(module=torchvision.models)  # classifiers only
    if name not in known:
        near = get_close_matches(name.lower(), known, n=3) or known[:3]
        raise UserError(f"model.name={name} is no classifier of torchvision; close: {', '.join(near)}")
    official = torchvision.models.get_model_weights(name).DEFAULT
    notes: tuple[str, ...] = ()
    if source.weights == "default":
        network, sha256 = _download_network(name, official)
        weights = official.name
    elif source.weights == "none":
        branches = {"aux_logits": False} if name in AUXILIARY else {}
        network, sha256, weights = _build_network(name, seed, **branches, **_size_settings(source)), None, "none"
    else:
        path = expand_path(source.weights)
        network, notes = _load_checkpoint(source, path)
        sha256, weights = hash_file(path), str(path)
    transforms = official.transforms()
    own = Preprocessing(
        transforms.crop_size[0],
        transforms.resize_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
        transforms.interpolation,
    )
    labels = tuple(official.meta["categories"])
    return Classifier(network.eval(), name, weights, sha256, labels, adjust_preprocessing(own, source), 0, notes)


def _download_network(name: str, official: Any) -> tuple[nn.Module, str | None]:
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_PATIENCE)
    try:
        with mute_libraries():
            network = torchvision.models.get_model(name, weights=official)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for a damaged file
        raise UserError(
            f"model.weights=default: torchvision's weights of {name} could not be downloaded ({error}); "
            "give model.weights=PATH, or model.weights=none for an untrained network"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)
    file = Path(torch.hub.get_dir(), "checkpoints", official.url.rsplit("/", 1)[1])
    return network, hash_file(file) if file.exists() else hash_state(network)


def _load_checkpoint(source: ModelSource, path: Path) -> tuple[nn.Module, tuple[str, ...]]:
    name = source.name or ""
    branches = AUXILIARY.get(name, ())
    settings: dict[str, Any] = {"aux_logits": False, "init_weights": False} if branches else _size_settings(source)
    network = _build_network(name, 0, **settings)
    state, notes = read_state_dict(path, network, source.ema)
    if any(key.startswith(branches) for key in state):
        settings["aux_logits"] = True
        network = _build_network(name, 0, **settings)
    classes = count_classes_in(state, network, IMAGENET_CLASSES)
    if classes != IMAGENET_CLASSES:
        network = _build_network(name, 0, num_classes=classes, **settings)
    elif branches:
        # torchvision's own weights of these expect TensorFlow's input range
        network.transform_input = True  # type: ignore[assignment]
    load_weights(network, state, f"model.weights={path}", f"model.name={name}")
    for branch in branches:
        setattr(network, branch, None)
    if branches:
        network.aux_logits = False  # type: ignore[assignment]
    return network, notes


def _size_settings(source: ModelSource) -> dict[str, Any]:
    """A vision transformer has one position embedding for each patch of a square. UserError for another shape."""
    if source.size is None or not (source.name or "").startswith("vit_"):
        return {}
    if not isinstance(source.size, int):
        raise UserError(
            f"model.size={key_size(source.size)}: {source.name} of torchvision sees squares only; give one number, or "
            "a vision transformer of model=timm"
        )
    return {"image_size": source.size}


def _build_network(name: str, seed: int, **settings: Any) -> nn.Module:
    with mute_libraries(), seed_weights(seed):
        network: nn.Module = torchvision.models.get_model(name, weights=None, **settings)
    return network
