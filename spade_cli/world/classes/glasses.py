"""The class "glasses": a pair of spectacles, or two glasses of wine."""

import numpy as np

from spade_cli.world.shapes import box, ellipse, ring, stroke, turned
from spade_cli.world.sketch import Sketch, tint

ROWS = (-0.78, -0.6, -0.4, -0.2, -0.06, 0.0, 0.06, 0.62, 0.7, 0.76, 0.82)
HALF_WIDTHS = (0.26, 0.3, 0.32, 0.29, 0.18, 0.08, 0.035, 0.035, 0.1, 0.24, 0.26)


def spectacles(sketch: Sketch, rng: np.random.Generator) -> None:
    """Two lenses, round or square, in a thick frame with a bridge and the ends of the temples."""
    x, y = sketch.x, sketch.y
    frame = tint(rng.uniform(), rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.55))
    glass = tint(rng.choice([0.55, 0.6, 0.1, 0.3]), rng.uniform(0.1, 0.5), rng.uniform(0.6, 1.0))
    height = rng.uniform(0.3, 0.4)
    lenses = box(np.abs(x) - 0.48, y, 0.4, height, rng.uniform(0.14, height))
    sketch.paint(lenses, glass, opacity=0.6)
    glint = stroke(np.mod(x + 0.96, 0.96) - 0.48, y, (-0.12, 0.1), (0.08, -0.14), 0.035)
    sketch.paint(glint, (1.0, 1.0, 1.0), opacity=0.6, within=lenses)
    sketch.paint(ring(lenses, 0.065), frame, bevel=0.07)
    bridge = np.maximum(ring(ellipse(x, y + 0.02, 0.15, 0.13), 0.05), y + 0.02)
    temples = stroke(np.abs(x), y, (0.86, -0.12), (0.98, -0.2), 0.06)
    sketch.paint(np.minimum(bridge, temples), frame, bevel=0.06)


def wine(sketch: Sketch, rng: np.random.Generator) -> None:
    """Two stemmed glasses side by side, each with wine in it."""
    colour = tint(rng.choice([0.96, 0.98, 0.13, 0.03]), rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.85))
    for side in (-0.42, 0.42):
        x, y = sketch.x - side, sketch.y - rng.uniform(-0.06, 0.06)
        glass = turned(x, y, ROWS, HALF_WIDTHS)
        sketch.paint(glass, (0.88, 0.93, 0.95), opacity=0.55)
        level = rng.uniform(-0.55, -0.25)
        sketch.paint(np.maximum(glass + 0.035, np.maximum(level - y, y - 0.0)), colour, bevel=0.15)
        sketch.paint(
            ring(ellipse(x, y - level, 0.27, 0.035), 0.012), (1.0, 0.95, 0.95), opacity=0.6, within=glass + 0.02
        )
        sketch.paint(ring(glass + 0.02, 0.022), (0.96, 0.98, 1.0))
        sketch.paint(stroke(x, y, (-0.19, -0.55), (-0.2, -0.3), 0.03), (1.0, 1.0, 1.0), opacity=0.7)
