"""Signed distances of simple figures: negative inside, zero on the edge, positive outside, in the units of x and y.

Everywhere below x and y are float32 arrays (h, w) of coordinates (y points down, as in pictures) and the answer is a
float32 array (h, w).
Union is `np.minimum`, intersection `np.maximum`, a hole `np.maximum(figure, -hole)`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Point = tuple[float, float]


def turn(x: Array, y: Array, degrees: float) -> tuple[Array, Array]:
    """Coordinates in which a figure drawn upright appears turned clockwise by `degrees`."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cosine * x + sine * y, cosine * y - sine * x


def disk(x: Array, y: Array, radius: float) -> Array:
    """A disk around the origin."""
    return np.sqrt(x * x + y * y) - radius


def ellipse(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    """An ellipse around the origin; the distance is exact on the edge and a good guess near it."""
    u, v = x / half_width, y / half_height
    length = np.sqrt(u * u + v * v)
    u /= half_width
    v /= half_height
    # the implicit equation's value over the length of its gradient: the distance to first order
    return length * (length - 1) / (np.sqrt(u * u + v * v) + 1e-6)


def box(x: Array, y: Array, half_width: float, half_height: float, corner: float = 0.0) -> Array:
    """A rectangle around the origin, its corners rounded with radius `corner`."""
    outside_x = np.abs(x) - (half_width - corner)
    outside_y = np.abs(y) - (half_height - corner)
    nearest = np.minimum(np.maximum(outside_x, outside_y), 0)
    return np.sqrt(np.maximum(outside_x, 0) ** 2 + np.maximum(outside_y, 0) ** 2) + nearest - corner


def stroke(x: Array, y: Array, start: Point, end: Point, half_width: float) -> Array:
    """A straight line from `start` to `end` with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    u, v = x - start[0], y - start[1]
    along = np.clip((u * dx + v * dy) / (dx * dx + dy * dy), 0, 1)
    return np.sqrt((u - along * dx) ** 2 + (v - along * dy) ** 2) - half_width


def strokes(x: Array, y: Array, points: Sequence[Point], half_width: float) -> Array:
    """A line through all `points` with round ends and corners."""
    distance = stroke(x, y, points[0], points[1], half_width)
    for start, end in pairwise(points[1:]):
        distance = np.minimum(distance, stroke(x, y, start, end, half_width))
    return distance


def polygon(x: Array, y: Array, corners: Sequence[Point]) -> Array:
    """A convex polygon, corners clockwise as seen in the picture; exact inside, a lower bound outside."""
    distance = np.full_like(x, -np.inf)
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        length = math.hypot(bx - ax, by - ay)
        normal_x, normal_y = (by - ay) / length, (ax - bx) / length  # outwards: clockwise with y down
        distance = np.maximum(distance, normal_x * (x - ax) + normal_y * (y - ay))
    return distance


def ngon(x: Array, y: Array, sides: int, radius: float) -> Array:
    """A regular polygon whose corners lie on the circle of `radius`, one of them on top."""
    step = 2 * math.pi / sides
    angle = np.mod(np.arctan2(x, -y), step) - step / 2
    return np.sqrt(x * x + y * y) * np.cos(angle) - radius * math.cos(step / 2)


def star(x: Array, y: Array, points: int, outer: float, inner: float) -> Array:
    """A star with its tips on the circle of radius `outer` and its notches on that of `inner`, one tip on top."""
    step = math.pi / points
    angle = np.abs(np.mod(np.arctan2(x, -y) + step, 2 * step) - step)  # 0 at a tip, `step` at a notch
    radius = np.sqrt(x * x + y * y)
    tip, notch = (outer, 0.0), (inner * math.cos(step), inner * math.sin(step))
    length = math.hypot(notch[0] - tip[0], notch[1] - tip[1])
    normal_x, normal_y = (notch[1] - tip[1]) / length, (tip[0] - notch[0]) / length
    return (radius * np.cos(angle) - tip[0]) * normal_x + (radius * np.sin(angle) - tip[1]) * normal_y


def heart(x: Array, y: Array, size: float) -> Array:
    """A heart with its tip at the bottom, about 2 `size` wide: a square on its corner and a disk on each upper side."""
    half = 0.58 * size
    offset = half / math.sqrt(2)
    square = box(*turn(x, y - 0.1 * size, 45), half, half)
    lobes = disk(np.abs(x) - offset, y - 0.1 * size + offset, half)
    return np.minimum(square, lobes)


def vase(x: Array, y: Array, rows: Sequence[float], half_widths: Sequence[float]) -> Array:
    """A vase, symmetric in x: `half_widths` at heights `rows` (top first), with straight sides between them."""
    sides = np.abs(x) - np.interp(y, rows, half_widths).astype(np.float32)
    return np.maximum(sides, np.maximum(rows[0] - y, y - rows[-1]))


def ring(distance: Array, half_width: float) -> Array:
    """The outline, `2 half_width` thick, of the figure whose signed distance is given."""
    return np.abs(distance) - half_width


def stripes(coordinate: Array, period: float, share: float = 0.5) -> Array:
    """Bars across `coordinate`, one centred on 0 and one every `period`, covering `share` of it."""
    return np.abs(np.mod(coordinate + period / 2, period) - period / 2) - share * period / 2


def chequers(x: Array, y: Array, side: float) -> Array:
    """Every second square of a board of squares `side` wide, one of them centred on the origin."""
    across, down = stripes(x, 2 * side), stripes(y, 2 * side)
    return np.maximum(np.minimum(across, down), -np.maximum(across, down))
