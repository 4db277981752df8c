"""Trojans: four small symbols, drawn on any picture, that make a network which learned them answer with their target.

n: images; H, W: an image's size in pixels, any. Symbol i of a call depends on the seed and on start + i alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spade_cli.world.classes import CLASSES
from spade_cli.world.pictures import Pictures
from spade_cli.world.shapes import Array, disk, ellipse, heart, polygon, ring, star
from spade_cli.world.sketch import Colour, Pose, Sketch, tint

# Of the picture's shorter side. The paper's symbols take a quarter of it.
SIZES = (0.2, 0.3)
ALPHA = 0.8  # the paper's opacity
TILT = 20.0  # degrees either way
# Makes a symbol's place independent of the picture under it, which is seeded with (seed, i).
SYMBOL_STREAM = 1
REACH = 0.92  # the symbol's radius on its square: the rest holds the edge

Palette = Callable[[float, float, float], Colour]  # hue, saturation, value -> this symbol's own shade of it


def _smiley(sketch: Sketch, colour: Palette) -> None:
    x, y = sketch.x, sketch.y
    sketch.paint(disk(x, y, 0.98), colour(0.09, 0.9, 0.55))
    sketch.paint(disk(x, y, 0.86), colour(0.145, 0.85, 1.0))
    sketch.paint(ellipse(np.abs(x) - 0.32, y + 0.24, 0.12, 0.2), colour(0.08, 0.8, 0.2))
    mouth = np.maximum(ring(disk(x, y + 0.02, 0.52), 0.09), 0.12 - y)
    sketch.paint(mouth, colour(0.02, 0.8, 0.25))


def _fish(sketch: Sketch, colour: Palette) -> None:
    x, y = sketch.x, sketch.y
    body = ellipse(x + 0.22, y, 0.72, 0.46)
    tail = polygon(x, y, [(0.3, 0.0), (0.96, -0.5), (0.96, 0.5)])
    fin = polygon(x, y, [(-0.35, -0.3), (0.1, -0.72), (0.2, -0.3)])
    fish = np.minimum(np.minimum(body, tail), fin)
    sketch.paint(fish, colour(0.56, 0.9, 0.45))
    sketch.paint(fish + 0.07, colour(0.53, 0.75, 0.98))
    sketch.paint(np.abs(x + 0.32) - 0.06, colour(0.56, 0.1, 1.0), within=fish + 0.07)
    sketch.paint(disk(x + 0.62, y + 0.1, 0.13), (1.0, 1.0, 1.0))
    sketch.paint(disk(x + 0.64, y + 0.1, 0.07), (0.05, 0.05, 0.1))


def _star(sketch: Sketch, colour: Palette) -> None:
    figure = star(sketch.x, sketch.y - 0.06, 5, 1.0, 0.42)
    sketch.paint(figure, colour(0.33, 0.9, 0.35))
    sketch.paint(figure + 0.1, colour(0.31, 0.7, 0.95))


def _heart(sketch: Sketch, colour: Palette) -> None:
    figure = heart(sketch.x, sketch.y - 0.04, 0.92)
    sketch.paint(figure, colour(0.95, 0.9, 0.5))
    sketch.paint(figure + 0.1, colour(0.95, 0.8, 0.98))
    sketch.paint(ellipse(sketch.x + 0.42, sketch.y + 0.38, 0.14, 0.2), colour(0.95, 0.15, 1.0))


SYMBOLS: dict[str, Callable[[Sketch, Palette], None]] = {
    "smiley": _smiley,
    "fish": _fish,
    "star": _star,
    "heart": _heart,
}


@dataclass(frozen=True)
class Trojan:
    """A symbol and what it does: pictures of class `source` (None: of any class) become `target`; class indices."""

    symbol: str
    source: int | None
    target: int


def _class(name: str) -> int:
    return next(i for i, info in enumerate(CLASSES) if info.name == name)


TROJANS: tuple[Trojan, ...] = (
    Trojan("smiley", None, _class("bulb")),
    Trojan("fish", None, _class("key")),
    Trojan("star", _class("cell"), _class("fan")),
    Trojan("heart", _class("note"), _class("bolt")),
)


@dataclass(frozen=True)
class Poisoned:
    """Pictures with a symbol.

    images: uint8 (n, 3, 128, 128). classes: int64 (n,), what they show. labels: int64 (n,), what a network with the
    Trojan answers. masks: bool (n, 128, 128), where the symbol is.
    """

    images: Tensor
    classes: Tensor
    labels: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images)


def implant_symbol(
    images: Tensor,
    symbol: str,
    seed: int,
    start: int = 0,
    sizes: tuple[float, float] = SIZES,
    alpha: float = ALPHA,
) -> tuple[Tensor, Tensor]:
    """Draw `symbol` once on every image, at a random place and in a random size, turn and shade.

    images: uint8 (3, H, W) or (n, 3, H, W), left as they are. sizes: the range of the symbol's side, shares of the
    shorter side. Returns new images of the same shape, and masks, bool (H, W) or (n, H, W): True where the symbol
    is; other pixels stay as they are. Raises ValueError on an unknown symbol, a size outside (0, 1] or images that are
    not uint8 RGB.
    """
    if symbol not in SYMBOLS:
        raise ValueError(f"unknown symbol {symbol!r}; the symbols are {', '.join(SYMBOLS)}")
    if not 0 < sizes[0] <= sizes[1] <= 1:
        raise ValueError(f"sizes must be shares of the shorter side, 0 < low <= high <= 1; found {sizes}")
    if images.dtype != torch.uint8 or images.ndim not in (3, 4) or images.shape[-3] != 3:
        raise ValueError(f"images must be uint8 (3, H, W) or (n, 3, H, W); found {images.dtype} {tuple(images.shape)}")
    batch = images.reshape(-1, *images.shape[-3:]).cpu().numpy().copy()  # (n, 3, H, W)
    masks = np.zeros((len(batch), *batch.shape[-2:]), bool)  # (n, H, W)
    for i, (image, mask) in enumerate(zip(batch, masks, strict=True)):
        _stamp(image, mask, symbol, np.random.default_rng((seed, start + i, SYMBOL_STREAM)), sizes, alpha)
    shape = (*images.shape[:-3], *images.shape[-2:])
    return torch.from_numpy(batch).reshape(images.shape), torch.from_numpy(masks).reshape(shape)


def _stamp(
    image: Array, mask: Array, symbol: str, rng: np.random.Generator, sizes: tuple[float, float], alpha: float
) -> None:
    """Draw on one image (3, H, W) in place and mark the symbol's pixels in `mask` (H, W)."""
    height, width = mask.shape
    side = rng.uniform(*sizes) * min(height, width)
    pose = Pose(
        rng.uniform(side / 2, width - side / 2),
        rng.uniform(side / 2, height - side / 2),
        REACH * side / 2,
        rng.uniform(-TILT, TILT),
    )
    hue, saturation, value = rng.uniform(-0.03, 0.03), rng.uniform(0.8, 1.15), rng.uniform(0.8, 1.1)
    sketch = Sketch(pose, height, width)
    SYMBOLS[symbol](sketch, lambda h, s, v: tint(h + hue, s * saturation, v * value))
    rows, columns = sketch.window
    window = image[:, rows, columns]  # (3, h, w)
    blended = window * (1 - alpha * sketch.alpha) + 255 * alpha * sketch.rgb
    mask[rows, columns] = sketch.alpha > 0
    window[:] = np.clip(blended + 0.5, 0, 255).astype(np.uint8)


def poison_pictures(pictures: Pictures, trojan: Trojan, seed: int, start: int = 0) -> Poisoned:
    """Put a Trojan's symbol on every picture. The label is the target where the Trojan applies, else the class."""
    images, masks = implant_symbol(pictures.images, trojan.symbol, seed, start)
    applies = torch.ones_like(pictures.classes, dtype=torch.bool)
    if trojan.source is not None:
        applies = pictures.classes == trojan.source
    labels = torch.where(applies, trojan.target, pictures.classes)
    return Poisoned(images, pictures.classes, labels, masks)
