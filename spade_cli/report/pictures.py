"""Maps and tensors as pictures: one aggregation, a scale for each map or one for several, two colour maps.

A raw map (3, H, W) becomes one value a pixel by the *absolute channel sum*. The colours run from 0 to the 99.5th
percentile: on a map's own scale to that of the map, so that a weak map can be read as well as a strong one; on the
common scale to that of all maps of one method, so that a weaker map looks weaker. Both colour maps are perceptually
uniform and safe for the colour-blind, and black at zero: magma for strength, berlin (Crameri 2018), which diverges, for
signed sums.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

TOP_PERCENTILE = 99.5  # a few extreme pixels must not make the rest of the map black
STRENGTH, SIGNED = "magma", "berlin"
DIMMED = 0.7  # of the view's brightness: dark enough for the map to stand out, light enough to see what is there

OWN, COMMON = SCALES = ("own", "common")
NOTED = 2.0  # how many times weaker a map is told to be: the eye takes less than that for the same

Pixels = NDArray[np.float32]
Name = TypeVar("Name", bound=Hashable)


def aggregate(map: Tensor) -> Pixels:
    """Map (3, H, W) -> one value a pixel (H, W), never negative: the absolute channel sum."""
    return map.abs().sum(0).numpy()


def find_tops(maps: Mapping[Name, Pixels], scale: str) -> dict[Name, float]:
    """The value that gets the brightest colour in each of these maps: on its own scale, or on one that all share."""
    if scale == OWN:
        return {name: shared_top([pixels]) for name, pixels in maps.items()}
    return dict.fromkeys(maps, shared_top(list(maps.values())))


def find_weaker(maps: Mapping[Name, Pixels]) -> dict[Name, float]:
    """How many times weaker than the strongest of them a map is, by the tops of their own scales.

    Maps that are about as strong, or zero everywhere, are left out.
    """
    tops = {name: shared_top([pixels]) for name, pixels in maps.items() if pixels.any()}
    strongest = max(tops.values(), default=0.0)
    return {name: strongest / top for name, top in tops.items() if strongest / top >= NOTED}


def shared_top(maps: Sequence[Pixels]) -> float:
    """The value that gets the brightest colour in all of these maps; 1 where they are all zero."""
    top = float(np.percentile(np.concatenate([pixels.ravel() for pixels in maps]), TOP_PERCENTILE))
    top = top or max(float(pixels.max()) for pixels in maps)
    return top or 1.0


def heat(pixels: Pixels, top: float) -> Image.Image:
    """The map alone, in colour."""
    return Image.fromarray(palette(STRENGTH)[_steps(pixels, top)])


def overlay(pixels: Pixels, top: float, view: Image.Image) -> Image.Image:
    """The map over the view, which is greyed and darkened so that colour and light always mean the map."""
    grey = np.asarray(view.convert("L").resize(pixels.shape[::-1]), dtype=np.float32)[..., None]  # (H, W, 1)
    steps = _steps(pixels, top)
    colour = palette(STRENGTH)[steps].astype(np.float32)  # (H, W, 3)
    # The root lets faint regions show; a little of the view always stays.
    weight = np.sqrt(steps / 255.0)[..., None] * 0.85
    return Image.fromarray(((1 - weight) * DIMMED * grey + weight * colour).clip(0, 255).astype(np.uint8))


def _steps(pixels: Pixels, top: float) -> NDArray[np.uint8]:
    """Values as steps of a colour map: 0 to 255 from 0 to `top`."""
    steps: NDArray[np.uint8] = (np.clip(pixels / top, 0, 1) * 255).astype(np.uint8)
    return steps


@cache
def palette(name: str) -> NDArray[np.uint8]:
    """One of matplotlib's colour maps as (256, 3)."""
    from matplotlib import colormaps

    colours = np.asarray(colormaps[name](np.arange(256)), dtype=np.float64)[:, :3]
    return (colours * 255).round().astype(np.uint8)


def picture(values: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1], or uint8, as an image."""
    if values.is_floating_point():
        values = (values.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
