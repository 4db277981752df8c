"""model=timm: every classification network of timm (the extra `timm`), its weights, labels and preprocessing."""

from difflib import get_close_matches
from typing import Any

from torchvision.transforms import InterpolationMode

from spade_cli.errors import UserError, error_line
from spade_cli.files import expand_path
from spade_cli.models.build import count_classes_in, import_library, mute_libraries, seed_weights
from spade_cli.models.checkpoints import hash_file, hash_state, load_weights, read_state_dict
from spade_cli.models.classifier import COLOURS, Classifier, Fit, ModelSource, Preprocessing, adjust_preprocessing
from spade_cli.models.label_sets import IMAGENET
from spade_cli.sizes import Size, key_size, make_size

FITS: dict[str, Fit] = {"center": "crop", "squash": "squash", "border": "border"}  # timm's crop_mode -> ours


def load_classifier(source: ModelSource, seed: int) -> Classifier:
    """The classifier of that name. Raises UserError for an unknown name, and for weights that cannot be loaded."""
    timm = import_library("timm", "model=timm")
    name = (source.name or "").removeprefix("hf_hub:timm/").removeprefix("timm/")
    if not timm.is_model(name.split(".")[0]) or ("." in name and name not in timm.list_pretrained()):
        known = timm.list_models() + timm.list_pretrained()
        near = get_close_matches(name.lower(), known, n=3) or known[:3]
        raise UserError(f"model.name={name} is no network of timm; close: {', '.join(near)}")
    settings = _size_settings(timm, name, source.size)
    notes: tuple[str, ...] = ()
    if source.weights == "default":
        network = _download_network(timm, name, settings)
        weights, sha256 = str(network.pretrained_cfg.get("tag") or "timm"), hash_state(network)
    elif source.weights == "none":
        network, weights, sha256 = _build_network(timm, name, seed, settings), "none", None
    else:
        path = expand_path(source.weights)
        network = _build_network(timm, name, 0, settings)
        state, notes = read_state_dict(path, network, source.ema)
        classes = count_classes_in(state, network, network.num_classes)
        if classes != network.num_classes:
            network = _build_network(timm, name, 0, {**settings, "num_classes": classes})
        load_weights(network, state, f"model.weights={path}", f"model.name={name}")
        weights, sha256 = str(path), hash_file(path)
    seen = adjust_preprocessing(_read_preprocessing(timm, network), source)
    return Classifier(network.eval(), name, weights, sha256, _labels(timm, network), seen, 0, notes)


def _size_settings(timm: Any, name: str, size: Size | None) -> dict[str, Any]:
    """A network of one fixed size is built for the size that was asked for."""
    known = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {"img_size": size} if size is not None and known is not None and known.fixed_input_size else {}


def _build_network(timm: Any, name: str, seed: int, settings: dict[str, Any]) -> Any:
    try:
        with mute_libraries(), seed_weights(seed):
            return timm.create_model(name, pretrained=False, **settings)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:  # a size that the network cannot have
        asked = f" with model.size={key_size(settings['img_size'])}" if "img_size" in settings else ""
        raise UserError(
            f"model.name={name}{asked} cannot be built ({error_line(error)}); try another model.size"
        ) from error


def _download_network(timm: Any, name: str, settings: dict[str, Any]) -> Any:
    try:
        with mute_libraries():
            return timm.create_model(name, pretrained=True, **settings)
    except Exception as error:  # the hub's client raises dozens of kinds
        raise UserError(
            f"model.weights=default: timm's weights of {name} could not be had ({error_line(error)}); "
            "give model.weights=PATH, or model.weights=none for an untrained network"
        ) from error


def _read_preprocessing(timm: Any, network: Any) -> Preprocessing:
    """As timm evaluates the network: resized to size / crop_pct, then the centre."""
    wanted = timm.data.resolve_model_data_config(network)
    colours, height, width = wanted["input_size"]
    if colours != COLOURS:
        raise UserError(f"timm's network takes pictures of {wanted['input_size']}; spade shows three colours")
    mode = wanted.get("interpolation", "bicubic")
    interpolation = InterpolationMode(mode) if mode in set(InterpolationMode) else InterpolationMode.BICUBIC
    mean, std = tuple(wanted["mean"]), tuple(wanted["std"])
    resize = make_size(*(int(side / wanted["crop_pct"]) for side in (height, width)))
    fit = FITS[wanted.get("crop_mode", "center")]
    return Preprocessing(make_size(height, width), resize, mean, std, interpolation, fit)


def _labels(timm: Any, network: Any) -> tuple[str, ...] | None:
    """Names of ImageNet's classes (torchvision's names for the usual thousand); None for other data sets."""
    subset = timm.data.infer_imagenet_subset(network)
    if subset is None:
        return None
    if subset == "imagenet-1k":
        return IMAGENET
    names = timm.data.ImageNetInfo(subset)
    return tuple(names.index_to_description(index).split(",")[0] for index in range(names.num_classes()))
