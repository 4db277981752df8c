"""model=huggingface: image classifiers of transformers (the extra `huggingface`), by hub name or from a folder."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from spade_cli.errors import UserError, error_line
from spade_cli.files import expand_path
from spade_cli.models.build import import_library, mute_libraries, seed_weights
from spade_cli.models.checkpoints import hash_file, hash_state, load_weights, read_state_dict
from spade_cli.models.classifier import Classifier, ModelSource, Preprocessing, adjust_preprocessing
from spade_cli.sizes import make_size

LOADER = "AutoModelForImageClassification"
WANTED = {LOADER: "an image classifier", "AutoModel": "a CLIP or SigLIP network"}  # by the class that loads it
NAMED = 3  # missing weights that an error names
NO_CODE = {"trust_remote_code": False}  # a repository's own code is refused; by default a terminal is asked
# processors keep PIL's numbers
RESAMPLING = {0: InterpolationMode.NEAREST, 2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}


class Logits(nn.Module):
    """A classifier of transformers that takes images (N, 3, H, W) and returns its logits alone (N, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:  # noqa: D102
        logits: Tensor = self.network(pixel_values=image).logits
        return logits


def load_classifier(source: ModelSource, seed: int) -> Classifier:
    """The classifier of that name or folder. Raises UserError where it, its weights or its processor cannot be read."""
    transformers = import_library("transformers", "model=huggingface", extra="huggingface")
    name = expand_folder(source.name or "")
    asked = f"model=huggingface model.name={name}"
    with seed_weights(seed):
        network = load_network(transformers, LOADER, name, source.weights != "default", asked)
    processor = load_part(transformers, "AutoImageProcessor", name, "image processor", asked).to_dict()
    weights, sha256 = source.weights, hash_state(network)
    notes: tuple[str, ...] = ()
    if source.weights == "none":
        sha256 = ""
    elif source.weights == "default":
        weights = name
    else:
        path = expand_path(source.weights)
        state, notes = read_state_dict(path, network, source.ema)
        load_weights(network, state, f"model.weights={path}", f"model.name={name}")
        weights, sha256 = str(path), hash_file(path)
    own = read_preprocessing(processor, name)
    labels = _labels(network.config)
    model = Logits(network.float()).eval()
    return Classifier(model, name, weights, sha256 or None, labels, adjust_preprocessing(own, source), 0, notes)


def expand_folder(name: str) -> str:
    """A name on the hub as it is, a folder with ~ replaced."""
    return str(expand_path(name)) if name.startswith(("~", ".", "/")) else name


def load_network(transformers: Any, loader: str, name: str, untrained: bool, asked: str) -> Any:
    """The network that a class of transformers loads, in float32, or one of its shape with weights drawn anew.

    Raises UserError where it cannot be read, and where weights of it are missing, which transformers would draw
    silently: those of the head of a network that was never trained to classify.
    """
    kind = getattr(transformers, loader)
    try:
        with mute_libraries():
            if untrained:
                return kind.from_config(transformers.AutoConfig.from_pretrained(name, **NO_CODE))
            network, found = kind.from_pretrained(name, dtype="float32", output_loading_info=True, **NO_CODE)
    except Exception as error:  # from the hub, from a configuration of another kind of network, from a file
        raise UserError(
            f"{asked} could not be loaded ({error_line(error)}); give the name of {WANTED[loader]} on the hub, or a "
            "folder that save_pretrained() wrote"
        ) from error
    missing = sorted(found["missing_keys"])
    if missing:
        more = " and more" if len(missing) > NAMED else ""
        raise UserError(
            f"{asked} has no weights for {', '.join(missing[:NAMED])}{more}, so its answers would be random; give a "
            "network that was trained for this, or model.weights=none"
        )
    return network


def load_part(transformers: Any, loader: str, name: str, what: str, asked: str) -> Any:
    """The processor or the tokenizer that belongs to a network. Raises UserError where there is none."""
    try:
        with mute_libraries():
            return getattr(transformers, loader).from_pretrained(name, **NO_CODE)
    except Exception as error:  # whatever transformers raises about files that are not there
        raise UserError(
            f"{asked} has no {what} ({error_line(error)}); save one beside the network: "
            f"transformers.{loader}.from_pretrained(NAME).save_pretrained({name!r})"
        ) from error


def _labels(config: Any) -> tuple[str, ...] | None:
    """Names by index; None for LABEL_0, LABEL_1, ..., which stand in where a network has no names."""
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names


def _read_sides(size: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of a processor's entry; None where it names none."""
    height = size.get("height")
    return (height, size.get("width") or height) if height else None


def read_preprocessing(processor: dict[str, Any], name: str) -> Preprocessing:
    """The processor's steps as our own preprocessing. Raises UserError for steps that it does not know."""
    size, crop = processor.get("size") or {}, processor.get("crop_size") or {}
    short = size.get("shortest_edge")
    resize = (short, short) if short else _read_sides(size)
    if resize is None:
        raise UserError(f"model.name={name}: its processor names no size of pictures; give one whose size has a side")
    seen = (_read_sides(crop) if processor.get("do_center_crop") else None) or resize
    if processor.get("crop_pct") and not crop:  # ConvNeXt's: `size` is the part that is seen of a larger image
        resize = (int(seen[0] / processor["crop_pct"]),) * 2
    normalised = processor.get("do_normalize", True)
    mean, std = processor.get("image_mean") or (0.5,) * 3, processor.get("image_std") or (0.5,) * 3
    least = (min(seen),) * 2 if short else seen  # of what is resized: no black border in what is seen of it
    return Preprocessing(
        make_size(*seen),
        make_size(max(resize[0], least[0]), max(resize[1], least[1])),
        tuple(mean) if normalised else (0.0,) * 3,
        tuple(std) if normalised else (1.0,) * 3,
        RESAMPLING.get(processor.get("resample", 2), InterpolationMode.BILINEAR),
        "crop" if short else "squash",
    )
