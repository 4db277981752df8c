"""A classifier: a network in eval mode, its labels, and how it sees a picture."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from spade_cli.devices import device_of
from spade_cli.models.labels import find_class
from spade_cli.networks.scores import Output

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSource:
    """Where a network comes from: a library's name of it, or a factory 'package.module:function'."""

    name: str | None
    factory: str | None = None
    weights: str = "default"  # default: the library's; none: untrained; else a path
    labels: str | None = None  # path of a text or JSON file
    size: int | None = None  # None: the network's own
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    library: str = "torchvision"  # torchvision, timm or huggingface; a factory needs none
    channels: int | None = None  # 3 or 1 of the network's input; None: 3, or 1 where it takes no other
    output: str = "auto"  # what its outputs mean: softmax, sigmoid, or auto, found out


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
    output: Output = Output.SOFTMAX  # what the scores mean

    def label(self, index: int) -> str:
        """The class's name, 'class 3' where names are not known."""
        return self.labels[index] if self.labels else f"class {index}"

    def class_index(self, asked: str | int) -> int:
        """A label or an index as an index. Raises UserError for what the network does not have."""
        return find_class(asked, self.labels, self.classes)

    def grey(self) -> Tensor:
        """A picture without anything on it, as the network is fed it: (1, 3, size, size) on its device."""
        size = self.preprocessing.size
        return torch.zeros(1, 3, size, size, device=device_of(self.model))


def adjusted(own: Preprocessing, source: ModelSource) -> Preprocessing:
    """The network's own preprocessing with the user's numbers; another size crops the same share of the picture."""
    size = source.size or own.size
    return replace(
        own,
        size=size,
        resize=round(own.resize * size / own.size),
        mean=source.mean or own.mean,
        std=source.std or own.std,
    )


def unknown_preprocessing(source: ModelSource) -> tuple[Preprocessing, tuple[str, ...]]:
    """ImageNet's, unless the user says otherwise; with a size of the user's own the whole short side is seen."""
    known = Preprocessing() if source.size is None else Preprocessing(size=source.size, resize=source.size)
    open_questions = [word for word in ("size", "mean", "std") if getattr(source, word) is None]
    if not open_questions:
        return adjusted(known, source), ()
    assumed = {
        "size": "224 pixels from a short side of 256",
        "mean": "ImageNet's mean",
        "std": "ImageNet's standard deviation",
    }
    keys = ", ".join(f"model.{word}" for word in open_questions)
    listed = ", ".join(assumed[word] for word in open_questions)
    note = f"preprocessing assumed: {listed}; set {keys} if it was trained otherwise"
    return adjusted(known, source), (note,)
