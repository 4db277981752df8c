"""A classifier: a network in eval mode, its labels, and how it sees an image."""

import math
import re
from collections.abc import Callable, Iterator
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
from spade_cli.sizes import Size, find_sides, make_size

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MIN_STD = 1e-6  # networks that want values of 16 bits divide by 1/65535
BRIGHTEST = 255.0  # of pictures in whole numbers
AUTO = "auto"  # the meaning of the outputs is found out
COLOURS, GREY = 3, 1  # channels of a network's input
MAX_SIZE = 10_000  # pixels a side; the largest picture that is read


@dataclass(frozen=True)
class ModelSource:
    """Where a network comes from: its name in a library, or a factory 'package.module:function'."""

    name: str | None
    factory: str | None = None
    weights: str = "default"  # default: the library's; none: untrained; else a path
    labels: str | None = None  # path of a text or JSON file
    size: Size | None = None  # None: the network's own
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
    """How the network sees an image: resized, then its centre of `size`, minus `mean`, over `std`.

    size: the side of a square in pixels, or (height, width). resize: the same, before the centre is cut out.
    fit: what `resize` means. crop: the image covers it, with its proportions; one number is the length of the short
    side. squash: the image becomes so large, whatever its proportions. border: the image fits in, with its proportions,
    and bars of the mean colour fill the rest.
    """

    size: Size = 224
    resize: Size = 256
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: InterpolationMode = InterpolationMode.BILINEAR
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        for name in ("size", "resize"):  # a square has one way to be written
            object.__setattr__(self, name, make_size(*find_sides(getattr(self, name))))

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of what the network sees, in pixels."""
        return find_sides(self.size)

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of a picture of which `view` shows the middle unscaled."""
        if isinstance(self.resize, int) and not isinstance(self.size, int):
            return max(self.resize, self.sides[0]), max(self.resize, self.sides[1])
        return find_sides(self.resize)

    def view(self, image: Tensor) -> Tensor:
        """What the network sees of the image: uint8 (3, H, W) -> float (1, 3, height, width) in 0..1, of `size`."""
        if self.fit == "crop":
            resized = self.cover(image)
        else:
            resized = self._resize(image, self._find_fitting(*image.shape[-2:]))
        if self.fit == "border":
            resized = self._add_bars(resized)
        centre: Tensor = F.center_crop(resized, list(self.sides))
        return centre[None].float() / 255  # (1, 3, height, width)

    def cover(self, image: Tensor) -> Tensor:
        """The image (3, H, W) resized with its proportions: it covers `resize`, as `fit="crop"` says."""
        if isinstance(self.resize, int):
            return self._resize(image, [self.resize])  # of the short side
        height, width = image.shape[-2:]
        return self._resize(image, _scale_sides(height, width, self.resize, min))

    def _resize(self, image: Tensor, sides: list[int]) -> Tensor:
        resized: Tensor = F.resize(image, sides, interpolation=self.interpolation, antialias=True)
        return resized

    def _find_fitting(self, height: int, width: int) -> list[int]:
        """The sides of an image that is squashed into `resize`, or fits in."""
        asked = find_sides(self.resize)
        return list(asked) if self.fit == "squash" else _scale_sides(height, width, asked, max)

    def _add_bars(self, image: Tensor) -> Tensor:
        """An image (3, h, w) in the middle of a plane of the mean colour, where it is smaller than `size`."""
        height, width = image.shape[-2:]
        plane = torch.tensor([round(255 * value) for value in self.mean], dtype=image.dtype, device=image.device)
        plane = plane[:, None, None].repeat(1, max(self.sides[0], height), max(self.sides[1], width))
        top, left = (plane.shape[1] - height) // 2, (plane.shape[2] - width) // 2
        plane[:, top : top + height, left : left + width] = image
        return plane

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
        """A plain grey image as the network's input: zeros (1, 3, height, width) on its device."""
        return torch.zeros(1, 3, *self.preprocessing.sides, device=device_of(self.model))


def _scale_sides(
    height: int, width: int, asked: tuple[int, int], of_both: Callable[[float, float], float]
) -> list[int]:
    """The sides of an image in its proportions: by `min` of both ratios it covers what is asked, by `max` it fits in.

    Rounded as timm does it.
    """
    ratio = of_both(height / asked[0], width / asked[1])
    return [max(1, round(side / ratio)) for side in (height, width)]


def adjust_preprocessing(own: Preprocessing, source: ModelSource) -> Preprocessing:
    """The network's own preprocessing with the user's numbers; another size crops the same share of each side."""
    size = own.size if source.size is None else source.size
    return replace(
        own,
        size=size,
        resize=_scale_resize(own, size),
        mean=source.mean or own.mean,
        std=source.std or own.std,
    )


def _scale_resize(own: Preprocessing, size: Size) -> Size:
    """`resize` for another size: what is seen stays the same share of it, along each side."""
    shares = [new / old for new, old in zip(find_sides(size), own.sides, strict=True)]
    if own.fit == "crop" and isinstance(own.resize, int) and not isinstance(own.size, int):
        return round(own.resize * max(shares))  # of the image's short side, whichever that is
    height, width = (round(side * share) for side, share in zip(find_sides(own.resize), shares, strict=True))
    return make_size(height, width)


def assume_preprocessing(source: ModelSource) -> tuple[Preprocessing, tuple[str, ...]]:
    """ImageNet's preprocessing with the user's numbers, and a note that names what was assumed.

    Where the user gives a size, the network sees as much of the image as its proportions allow.
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


def read_size(key: str, value: Any) -> Size:
    """The side of a square in pixels, or height and width. Raises UserError for anything else."""
    sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise UserError(
            f"{key}={value} is neither the side of a square in pixels nor height and width; write for example "
            f"{key}=224 or {key}=[192,256]"
        )
    for side in sides:
        if not 1 <= side <= MAX_SIZE:
            raise UserError(
                f"{key}={value}: {side} is not from 1 to {MAX_SIZE}; give the side of a square, or height and width"
            )
    return make_size(*sides)


@contextmanager
def name_arguments() -> Iterator[None]:
    """Inside the `with`, errors speak of Python's arguments: of `size`, where the command line says `model.size`."""
    try:
        yield
    except UserError as error:
        names = "|".join(field.name for field in fields(ModelSource))
        raise UserError(re.sub(rf"\bmodel\.({names})\b(?!\.)", r"\1", str(error))) from error
