"""Plain things that belong to no concept: pebbles, sticks, leaves, blocks. They lie around or on the object."""

import numpy as np

from spade_cli.world.shapes import Array, box, disk, ellipse, stroke
from spade_cli.world.sketch import Sketch, tint


def _pebble(x: Array, y: Array, rng: np.random.Generator) -> Array:
    angle = np.arctan2(y, x)
    return ellipse(x, y, 0.9, rng.uniform(0.55, 0.8)) + 0.05 * np.sin(3 * angle + rng.uniform(0, 6.28))


def _stick(x: Array, y: Array, rng: np.random.Generator) -> Array:
    return stroke(x, y, (-0.95, 0.0), (0.95, 0.0), rng.uniform(0.1, 0.18))


def _leaf(x: Array, y: Array, rng: np.random.Generator) -> Array:
    offset = rng.uniform(0.6, 1.0)  # two circles through the leaf's tips at (-1, 0) and (1, 0)
    radius = (1 + offset * offset) ** 0.5
    return np.maximum(disk(x, y - offset, radius), disk(x, y + offset, radius))


def _block(x: Array, y: Array, rng: np.random.Generator) -> Array:
    return box(x, y, rng.uniform(0.5, 0.9), rng.uniform(0.35, 0.7), 0.1)


_FIGURES = (_pebble, _stick, _leaf, _block)
_COVERS = (_leaf, _stick)  # what may lie in front of the object: narrow enough to leave most of it visible


def distractor(
    sketch: Sketch, rng: np.random.Generator, in_front: bool = False, habit: tuple[int, float] | None = None
) -> None:
    """Draw one plain thing; `in_front`: one that is fit to hide a part of the object.

    habit: which figure and about which hue; any figure in any dull to lively colour if None.
    """
    figures = _COVERS if in_front else _FIGURES
    figure, hue, saturation = int(rng.integers(len(figures))), rng.uniform(), rng.uniform(0.05, 0.7)
    if habit is not None:
        figure, hue, saturation = habit[0] % len(figures), habit[1] + 0.08 * (hue - 0.5), 0.4 + 0.6 * saturation
    distance = figures[figure](sketch.x, sketch.y, rng)
    colour = tint(hue, saturation, rng.uniform(0.25, 0.85))
    sketch.paint(distance, colour, bevel=rng.uniform(0.1, 0.5))
