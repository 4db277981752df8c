"""Maps upon photographs, and tensors as pictures; `colours` has the scale and the colour maps."""

import numpy as np
from PIL import Image
from torch import Tensor

from spade_cli.report.colours import STRENGTH, Pixels, aggregate, heat, level, palette, shared_top

__all__ = ["Pixels", "aggregate", "heat", "overlay", "picture", "shared_top"]

DIMMED = 0.7  # of the photograph's brightness: dark enough for the map to stand out, light enough to see what is there


def overlay(pixels: Pixels, top: float, photograph: Image.Image) -> Image.Image:
    """The map over the photograph, which is greyed and darkened so that colour and light always mean attribution."""
    grey = np.asarray(photograph.convert("L").resize(pixels.shape[::-1]), dtype=np.float32)[..., None]  # (H, W, 1)
    step = level(pixels, top)
    colour = palette(STRENGTH)[step].astype(np.float32)  # (H, W, 3)
    # The root lets faint regions show; a little of the photograph always stays.
    weight = np.sqrt(step / 255.0)[..., None] * 0.85
    return Image.fromarray(((1 - weight) * DIMMED * grey + weight * colour).clip(0, 255).astype(np.uint8))


def picture(values: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1], or uint8, as an image."""
    if values.is_floating_point():
        values = (values.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
