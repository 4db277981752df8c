"""The class "spade": a garden spade, or the suit on a playing card."""

import numpy as np

from spade_cli.world.shapes import Array, box, convex, ellipse, heart, ring, stroke
from spade_cli.world.sketch import Sketch, tint


def garden_spade(sketch: Sketch, rng: np.random.Generator) -> None:
    """A pointed steel blade under a wooden handle with a grip."""
    x, y = sketch.x, sketch.y
    wood = tint(rng.uniform(0.05, 0.1), rng.uniform(0.5, 0.75), rng.uniform(0.55, 0.8))
    steel = tint(rng.uniform(0.5, 0.65), rng.uniform(0.05, 0.25), rng.uniform(0.55, 0.8))
    grip = tint(rng.choice([0.0, 0.03, 0.35, 0.6]), rng.uniform(0.6, 0.9), rng.uniform(0.4, 0.75))
    sketch.paint(stroke(x, y, (0, -0.7), (0, 0.2), 0.075), wood, bevel=0.07)
    sketch.paint(ring(box(x, y + 0.78, 0.26, 0.15, 0.1), 0.06), grip, bevel=0.06)
    blade = np.maximum(box(x, y - 0.45, 0.4, 0.6, 0.08), ellipse(x, y - 0.2, 0.52, 0.78))
    sketch.paint(np.maximum(blade, 0.08 - y), steel, bevel=0.16)
    sketch.paint(convex(x, y, [(-0.08, -0.16), (0.08, -0.16), (0.13, 0.3), (0, 0.62), (-0.13, 0.3)]), steel, bevel=0.1)


def suit(x: Array, y: Array, size: float) -> Array:
    """The figure on the card: a heart upside down on a stem, about 2 `size` wide."""
    stem = convex(x, y, [(0, 0.1 * size), (0.38 * size, 1.02 * size), (-0.38 * size, 1.02 * size)])
    return np.minimum(heart(x, -y - 0.05 * size, size), stem)


def ace(sketch: Sketch, rng: np.random.Generator) -> None:
    """The ace of spades: a white card, one large black suit and two small ones."""
    x, y = sketch.x, sketch.y
    paper = tint(rng.uniform(0.08, 0.16), rng.uniform(0.0, 0.15), rng.uniform(0.9, 1.0))
    ink = tint(rng.uniform(0.6, 0.75), rng.uniform(0.0, 0.5), rng.uniform(0.05, 0.2))
    card = box(x, y, 0.62, 0.88, 0.1)
    sketch.paint(card, paper, bevel=0.04)
    sketch.paint(suit(x, y, rng.uniform(0.32, 0.4)), ink)
    sketch.paint(suit(x + 0.44, y + 0.66, 0.11), ink)
    sketch.paint(suit(x - 0.44, 0.66 - y, 0.11), ink)
