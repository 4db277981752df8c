"""The class "pin": a bowling pin, or the pin that marks a place on a map."""

import numpy as np

from spade_cli.world.shapes import convex, disk, ellipse, turned
from spade_cli.world.sketch import Sketch, tint

ROWS = (-0.95, -0.92, -0.84, -0.72, -0.58, -0.42, -0.28, -0.1, 0.12, 0.35, 0.6, 0.8, 0.93)
HALF_WIDTHS = (0.04, 0.1, 0.17, 0.2, 0.18, 0.14, 0.14, 0.2, 0.3, 0.36, 0.33, 0.25, 0.2)


def bowling_pin(sketch: Sketch, rng: np.random.Generator) -> None:
    """A white pin with two coloured bands around its neck."""
    x, y = sketch.x, sketch.y
    white = tint(rng.uniform(0.08, 0.15), rng.uniform(0.02, 0.15), rng.uniform(0.88, 0.98))
    band = tint(rng.choice([0.99, 0.0, 0.6, 0.35]), rng.uniform(0.75, 0.95), rng.uniform(0.6, 0.85))
    body = turned(x, y, ROWS, HALF_WIDTHS)
    sketch.paint(body, white, bevel=0.26)
    bow = 0.03 - 0.6 * x * x  # bands hang down in the middle, as on a round neck
    sketch.paint(np.maximum(body + 0.01, np.abs(y + 0.45 - bow) - 0.05), band, bevel=0.2)
    sketch.paint(np.maximum(body + 0.01, np.abs(y + 0.27 - bow) - 0.05), band, bevel=0.2)


def map_pin(sketch: Sketch, rng: np.random.Generator) -> None:
    """A drop standing on its tip with a white eye, over a small shadow on the map."""
    x, y = sketch.x, sketch.y
    colour = tint(
        rng.choice([0.0, 0.03, 0.33, 0.58, 0.78, 0.12]) + rng.uniform(-0.02, 0.02),
        rng.uniform(0.7, 0.95),
        rng.uniform(0.7, 0.95),
    )
    sketch.paint(ellipse(x, y - 0.86, 0.32, 0.09), (0.1, 0.1, 0.1), opacity=0.45)
    # the sides leave the disk where they touch it: the tip is 1.2 away from a centre of radius 0.58
    drop = np.minimum(disk(x, y + 0.32, 0.58), convex(x, y, [(-0.51, -0.04), (0.51, -0.04), (0, 0.9)]))
    sketch.paint(drop, colour, bevel=0.2)
    sketch.paint(disk(x, y + 0.32, 0.25), (0.97, 0.97, 0.95))
