"""A small transparent canvas on which one object is drawn by signed distances, lit from one side.

h, w: the canvas in pixels. Colours are in [0, 1].
"""

import colorsys
import math
from dataclasses import dataclass

import numpy as np

from spade_cli.world.shapes import Array

Colour = tuple[float, float, float]

MARGIN = 1.2  # half the canvas's side in object units: the object fits the unit disk, the rest is for edge and shadow
BEVEL_STRENGTH = 0.5  # brightness gained on a slope towards the light, and lost on one away from it


@dataclass(frozen=True)
class Pose:
    """Where an object lies: centre and radius in pixels, turn in degrees clockwise, width over height, mirrored."""

    column: float
    row: float
    radius: float
    turn: float = 0.0
    stretch: float = 1.0
    mirrored: bool = False


def tint(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue (wraps at 1), saturation and value (both cut to [0, 1])."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


class Sketch:
    """A canvas (h, w) around a pose; `x`, `y` (h, w) are the object's own coordinates, `pixel` a pixel's size in them.

    After drawing: `rgb` (3, h, w) premultiplied by `alpha` (h, w), and `outline` (h, w), the object's signed distance.
    """

    def __init__(self, pose: Pose, height: int, width: int, light: tuple[float, float] = (-0.6, -0.8)):
        reach = pose.radius * MARGIN * max(pose.stretch, 1 / pose.stretch)
        self.top, self.bottom = max(math.floor(pose.row - reach), 0), min(math.ceil(pose.row + reach) + 1, height)
        self.left, self.right = max(math.floor(pose.column - reach), 0), min(math.ceil(pose.column + reach) + 1, width)
        columns = np.arange(self.left, self.right, dtype=np.float32) + 0.5 - pose.column  # (w,)
        rows = np.arange(self.top, self.bottom, dtype=np.float32)[:, None] + 0.5 - pose.row  # (h, 1)
        cosine, sine = math.cos(math.radians(pose.turn)) / pose.radius, math.sin(math.radians(pose.turn)) / pose.radius
        sign = -1.0 if pose.mirrored else 1.0
        root = math.sqrt(pose.stretch)
        self.x = (sign / root) * (cosine * columns + sine * rows)  # (h, w)
        self.y = root * (cosine * rows - sine * columns)  # (h, w)
        self.pixel = 1.0 / pose.radius
        self.light = light  # unit vector in the picture, from the object towards the light
        self.rgb = np.zeros((3, *self.x.shape), np.float32)  # (3, h, w)
        self.alpha: Array = np.zeros(self.x.shape, np.float32)  # (h, w)
        self.outline = np.full(self.x.shape, 1.0, np.float32)  # (h, w)

    @property
    def window(self) -> tuple[slice, slice]:
        """The canvas's rows and columns in the picture."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def cover(self, distance: Array) -> Array:
        """The share of each pixel that the figure covers, (h, w) in [0, 1]: anti-aliasing without more samples."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def paint(
        self,
        distance: Array,
        colour: Colour | Array,
        bevel: float = 0.0,
        opacity: float = 1.0,
        within: Array | None = None,
    ) -> None:
        """Paint a figure over what is there.

        distance (h, w): its signed distance. colour: three numbers or (3, h, w). bevel: width of a rounded rim, lit
        from one side; 0 is flat. within (h, w): the signed distance of a figure that cuts this one off.
        """
        if within is not None:
            distance = np.maximum(distance, within)
        cover = self.cover(distance)  # (h, w)
        if opacity < 1:
            cover *= opacity
        paint = np.asarray(colour, np.float32)
        if paint.ndim == 1:
            paint = paint[:, None, None]
        if bevel > 0:
            paint = np.clip(paint * (1 + self._slope(distance, bevel)), 0, 1)  # (3, h, w)
        keep = 1 - cover
        self.rgb *= keep
        self.rgb += paint * cover
        self.alpha *= keep
        self.alpha += cover
        if opacity >= 1:
            np.minimum(self.outline, distance, out=self.outline)

    def _slope(self, distance: Array, bevel: float) -> Array:
        """Extra brightness (h, w) of a rim that rises over `bevel` from the edge, by how much it faces the light."""
        depth = np.clip(-distance / bevel, 0, 1)
        height = depth * (2 - depth)
        lit = np.zeros_like(height)
        lit[:, 1:-1] += self.light[0] * (height[:, :-2] - height[:, 2:])
        lit[1:-1] += self.light[1] * (height[:-2] - height[2:])
        # central differences span two pixels, and the profile's steepest rise is 2 per bevel
        return lit * (BEVEL_STRENGTH * bevel / (4 * self.pixel))
