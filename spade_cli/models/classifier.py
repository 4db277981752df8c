"""A classifier: a network in eval mode, its labels, and how it sees an image."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.models.labels import find_class
from spade_cli.networks.scores import Output

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MIN_STD = 1e-6  # networks that want values of 16 bits divide by 1/65535
BRIGHTEST = 255.0  # of pictures in whole numbers
AUTO = "auto"  # the meaning of the outputs is found out
COLOURS, GREY = 3, 1  # channels of a network's input


@dataclass(frozen=True)
class ModelSource:
    """Where a network comes from: its name in a library, or a factory 'package.module:function'."""

    name: str | None
    factory: str | None = None
    weights: str = "default"  # default: the library's; none: untrained; else a path
    labels: str | None = None  # path of a text or JSON file
    size: int | None = None  # None: the network's own
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    library: str = "torchvision"  # torchvision, timm, huggingface, clip or openclip; a factory needs none
    channels: int | None = None  # 3 or 1 of the network's input; None: 3, or 1 where it takes no other
    output: str = AUTO  # what its outputs mean: softmax, sigmoid, or auto
    logits: str | None = None  # which entry of what the network returns holds the class scores; None: it returns them
    ema: bool | None = None  # whether averaged weights are wanted of a file; None: where it has them
    prompts: tuple[str, ...] | None = None  # the classes of clip and openclip


Fit = Literal["crop", "squash", "border"]


@dataclass(frozen=True)
class Preprocessing:
    """How the network sees an image: resized, then its centre of `size` pixels a side, minus `mean`, over `std`.

    fit: what `resize` means. crop: the short side gets so many pixels. squash: both sides do, whatever the proportions.
    border: the long side does, and bars of the mean colour fill the square.
    """

    size: int = 224
    resize: int = 256
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: InterpolationMode = InterpolationMode.BILINEAR
    fit: Fit = "crop"

    def view(self, image: Tensor) -> Tensor:
        """What the network sees of the image: uint8 (3, H, W) -> float (1, 3, size, size) in 0..1."""
        sides = self._resized_sides(*image.shape[-2:])
        resized: Tensor = F.resize(image, sides, interpolation=self.interpolation, antialias=True)
        if self.fit == "border":
            resized = self._add_bars(resized)
        centre: Tensor = F.center_crop(resized, [self.size])
        return centre[None].float() / 255  # (1, 3, size, size)

    def _resized_sides(self, height: int, width: int) -> list[int]:
        if self.fit == "crop":
            return [self.resize]  # of the short side
        if self.fit == "squash":
            return [self.resize, self.resize]
        return [max(1, round(side * self.resize / max(height, width))) for side in (height, width)]

    def _add_bars(self, image: Tensor) -> Tensor:
        """An image (3, h, w) in the middle of a square of the mean colour, where it is smaller."""
        height, width = image.shape[-2:]
        square = torch.tensor([round(255 * value) for value in self.mean], dtype=image.dtype, device=image.device)
        square = square[:, None, None].repeat(1, max(self.size, height), max(self.size, width))
        top, left = (square.shape[1] - height) // 2, (square.shape[2] - width) // 2
        square[:, top : top + height, left : left + width] = image
        return square

    def normalise(self, x: Tensor) -> Tensor:
        """The network's input: (N, 3, H, W) in 0..1 -> the same shape around zero."""
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std


@dataclass(frozen=True)
class Classifier:
    """A network in eval mode with all that is needed to ask it about an image."""

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
        """The index of a class, given by label or index. Raises UserError for a class that the network lacks."""
        return find_class(asked, self.labels, self.classes)

    def grey(self) -> Tensor:
        """A plain grey image as the network's input: zeros (1, 3, size, size) on its device."""
        size = self.preprocessing.size
        return torch.zeros(1, 3, size, size, device=device_of(self.model))


def adjust_preprocessing(own: Preprocessing, source: ModelSource) -> Preprocessing:
    """The network's own preprocessing with the user's numbers; another size crops the same share of the image."""
    size = source.size or own.size
    return replace(
        own,
        size=size,
        resize=round(own.resize * size / own.size),
        mean=source.mean or own.mean,
        std=source.std or own.std,
    )


def assume_preprocessing(source: ModelSource) -> tuple[Preprocessing, tuple[str, ...]]:
    """ImageNet's preprocessing with the user's numbers, and a note that names what was assumed.

    Where the user gives a size, the network sees the whole short side.
    """
    known = Preprocessing() if source.size is None else Preprocessing(size=source.size, resize=source.size)
    missing = [word for word in ("size", "mean", "std") if getattr(source, word) is None]
    if not missing:
        return adjust_preprocessing(known, source), ()
    assumed = {
        "size": "224 pixels from a short side of 256",
        "mean": "ImageNet's mean",
        "std": "ImageNet's standard deviation",
    }
    keys = ", ".join(f"model.{word}" for word in missing)
    listed = ", ".join(assumed[word] for word in missing)
    note = f"preprocessing assumed: {listed}; set {keys} if it was trained otherwise"
    return adjust_preprocessing(known, source), (note,)


def read_colour(key: str, value: Any) -> tuple[float, ...]:
    """`mean` or `std`: one number for all colours, or three. Raises UserError for others, and beyond 0..1."""
    parts = tuple(value) if isinstance(value, list | tuple) else (value, value, value)
    good = [isinstance(part, int | float) and not isinstance(part, bool) and math.isfinite(part) for part in parts]
    if len(parts) != COLOURS or not all(good):
        raise UserError(f"{key}={value} is not one number or three; write for example {key}=[0.5,0.5,0.5]")
    if 1 < max(parts) <= BRIGHTEST and min(parts) >= 0:
        divided = ",".join(f"{part / BRIGHTEST:.3g}" for part in parts)
        raise UserError(
            f"{key}={value} is for pictures from 0 to 255, and here they are from 0 to 1: divide by 255, "
            f"{key}=[{divided}]"
        )
    low = MIN_STD if key.endswith("std") else 0
    for part in parts:
        if not low <= part <= 1:
            raise UserError(f"{key}={part} is not a number from {low:g} to 1; give one")
    return tuple(float(part) for part in parts)


def read_size(key: str, value: Any) -> int:
    """A square's side in pixels, also given as two equal sides. Raises UserError for anything else."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    found = next(iter(sides)) if len(sides) == 1 else None
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise UserError(f"{key}={value} is not the side of a square in pixels; write for example {key}=224")
    return found


@contextmanager
def name_arguments() -> Iterator[None]:
    """Inside the `with`, errors speak of Python's arguments: of `size`, where the command line says `model.size`."""
    try:
        yield
    except UserError as error:
        names = "|".join(field.name for field in fields(ModelSource))
        raise UserError(re.sub(rf"\bmodel\.({names})\b(?!\.)", r"\1", str(error))) from error
