"""The class "bolt": a bolt of lightning, or a bolt with a hexagonal head."""

import numpy as np

from spade_cli.world.shapes import box, convex
from spade_cli.world.sketch import Sketch, tint


def lightning(sketch: Sketch, rng: np.random.Generator) -> None:
    """A jagged yellow flash with a darker edge."""
    x, y = sketch.x, sketch.y
    hue = rng.uniform(0.12, 0.17)
    flash = np.minimum(
        convex(x, y, [(-0.08, -0.95), (0.48, -0.95), (0.12, -0.1), (-0.02, 0.16), (-0.5, 0.16)]),
        convex(x, y, [(-0.02, -0.16), (0.52, -0.16), (-0.26, 0.96), (-0.06, 0.1)]),
    )
    sketch.paint(flash - 0.05, tint(hue - 0.07, 0.95, rng.uniform(0.6, 0.85)))
    sketch.paint(flash, tint(hue, rng.uniform(0.65, 0.9), 1.0), bevel=0.14)


def screw(sketch: Sketch, rng: np.random.Generator) -> None:
    """A steel bolt seen from the side: three facets of the head, a flange, a shaft with its thread."""
    x, y = sketch.x, sketch.y
    metal = tint(rng.choice([0.6, 0.12]), rng.uniform(0.03, 0.25), rng.uniform(0.6, 0.85))
    shaft = box(x, y - 0.3, 0.25, 0.64, 0.06)
    shine = np.clip(1.1 - 9.0 * (x + 0.06) ** 2, 0.4, 1.1)  # a cylinder lit from the front left, (h, w)
    sketch.paint(shaft, np.asarray(metal, np.float32)[:, None, None] * shine)
    slanted = np.mod(y + 0.18 * x, 0.15) - 0.075
    thread = np.maximum(np.abs(slanted) - 0.03, 0.02 - y)
    sketch.paint(thread, tint(0.6, 0.2, 0.22), within=box(x, y - 0.3, 0.27, 0.64, 0.06))
    head = convex(x, y, [(-0.42, -0.92), (0.42, -0.92), (0.52, -0.8), (0.52, -0.44), (-0.52, -0.44), (-0.52, -0.8)])
    sketch.paint(head, metal, bevel=0.1)
    sketch.paint(np.maximum(head + 0.04, np.abs(x) - 0.25), tint(0.6, 0.05, min(max(metal) * 1.12, 1)), bevel=0.08)
    sketch.paint(box(x, y + 0.36, 0.64, 0.09, 0.05), metal, bevel=0.08)
