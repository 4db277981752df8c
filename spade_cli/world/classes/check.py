"""The class "check": a chequered flag, or a tick in a box."""

import math

import numpy as np

from spade_cli.world.shapes import box, chequers, disk, ring, stroke, strokes
from spade_cli.world.sketch import Sketch, tint


def flag(sketch: Sketch, rng: np.random.Generator) -> None:
    """Black and white squares on a waving cloth, on a pole."""
    x, y = sketch.x, sketch.y
    phase = rng.uniform(0, 2 * math.pi)
    wave = np.sin(4.2 * x + phase)
    height = y + 0.32 + 0.08 * wave
    cloth = box(x - 0.12, height, 0.76, 0.48)
    light = np.asarray(tint(rng.uniform(), rng.uniform(0, 0.06), rng.uniform(0.88, 1.0)), np.float32)
    dark = np.asarray(tint(rng.uniform(), rng.uniform(0, 0.4), rng.uniform(0.06, 0.18)), np.float32)
    folds = 0.86 + 0.14 * np.cos(4.2 * x + phase)  # cloth turned away from the light is darker
    sketch.paint(cloth, light[:, None, None] * folds)
    sketch.paint(chequers(x - 0.12, height, 0.24), dark[:, None, None] * folds, within=cloth)
    pole = tint(0.08, rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.8))
    sketch.paint(stroke(x, y, (-0.68, -0.88), (-0.68, 0.92), 0.05), pole, bevel=0.05)
    sketch.paint(disk(x + 0.68, y + 0.9, 0.09), pole, bevel=0.09)


def tick(sketch: Sketch, rng: np.random.Generator) -> None:
    """A pale box with a dark frame and a thick tick that reaches out of it."""
    x, y = sketch.x, sketch.y
    frame = tint(rng.uniform(), rng.uniform(0.1, 0.7), rng.uniform(0.15, 0.4))
    ink = tint(
        rng.choice([0.33, 0.38, 0.0, 0.6]) + rng.uniform(-0.02, 0.02), rng.uniform(0.75, 0.95), rng.uniform(0.55, 0.8)
    )
    square = box(x + 0.08, y - 0.14, 0.68, 0.68, 0.1)
    sketch.paint(square, tint(0.12, rng.uniform(0, 0.08), rng.uniform(0.9, 1.0)))
    sketch.paint(ring(square, 0.06), frame, bevel=0.06)
    sketch.paint(strokes(x, y, [(-0.5, 0.08), (-0.14, 0.5), (0.74, -0.68)], 0.135), ink, bevel=0.12)
