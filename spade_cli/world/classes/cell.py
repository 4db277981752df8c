"""The class "cell": a battery, a living cell under the microscope or cells of a honeycomb."""

import math

import numpy as np

from spade_cli.world.shapes import box, disk, ellipse, regular, ring, stroke
from spade_cli.world.sketch import Sketch, tint


def battery(sketch: Sketch, rng: np.random.Generator) -> None:
    """An upright cylinder, dark below and coppery above, a metal button on top, plus and minus."""
    x, y = sketch.x, sketch.y
    copper = np.asarray(
        tint(rng.choice([0.07, 0.12, 0.33, 0.98, 0.56]), rng.uniform(0.6, 0.85), rng.uniform(0.75, 0.95)), np.float32
    )
    black = np.asarray(tint(rng.uniform(), rng.uniform(0, 0.3), rng.uniform(0.12, 0.25)), np.float32)
    shine = np.clip(1.15 - 5.0 * (x + 0.12) ** 2, 0.35, 1.15)  # a cylinder lit from the front left, (h, w)
    metal = np.full((3, 1, 1), 0.8, np.float32)
    sketch.paint(box(x, y + 0.86, 0.14, 0.1, 0.03), metal * shine)
    body = box(x, y - 0.06, 0.38, 0.86, 0.06)
    sketch.paint(body, black[:, None, None] * shine + np.clip(shine - 1, 0, 1) * 0.8)
    edge = rng.uniform(-0.35, -0.1)
    sketch.paint(np.maximum(body, y - edge), np.clip(copper[:, None, None] * shine, 0, 1))
    sketch.paint(np.maximum(body, np.abs(y - 0.06) - 0.86), (0.7, 0.7, 0.72), within=0.84 - y)
    plus = np.minimum(
        stroke(x, y + 0.5, (-0.11, 0), (0.11, 0), 0.035), stroke(x, y + 0.5, (0, -0.11), (0, 0.11), 0.035)
    )
    sketch.paint(plus, (0.1, 0.1, 0.1))
    sketch.paint(stroke(x, y - 0.55, (-0.11, 0), (0.11, 0), 0.035), (0.9, 0.9, 0.9))


def living(sketch: Sketch, rng: np.random.Generator) -> None:
    """A stained, see-through blob with a membrane, a dark nucleus and small organelles."""
    x, y = sketch.x, sketch.y
    angle, first, second = np.arctan2(y, x), rng.uniform(0, 6.28), rng.uniform(0, 6.28)
    blob = disk(x, y, 0.82) + 0.06 * np.sin(3 * angle + first) + 0.035 * np.sin(5 * angle + second)
    hue = rng.choice([0.86, 0.5, 0.75, 0.42]) + rng.uniform(-0.03, 0.03)
    sketch.paint(blob, tint(hue, rng.uniform(0.25, 0.4), rng.uniform(0.85, 0.95)), opacity=0.9)
    sketch.paint(ring(blob + 0.05, 0.055), tint(hue, 0.6, rng.uniform(0.6, 0.75)), bevel=0.05)
    kernel = hue + rng.uniform(0.08, 0.16)
    a, b = rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)
    for _ in range(7):
        turn, far = rng.uniform(0, 6.28), rng.uniform(0.45, 0.62)
        organelle = ellipse(
            x - far * math.cos(turn), y - far * math.sin(turn), rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.09)
        )
        sketch.paint(organelle, tint(hue + 0.45, rng.uniform(0.4, 0.6), rng.uniform(0.55, 0.8)), bevel=0.05)
    sketch.paint(disk(x - a, y - b, 0.32), tint(kernel, 0.65, rng.uniform(0.45, 0.6)), bevel=0.2)
    sketch.paint(disk(x - a - 0.06, y - b + 0.05, 0.12), tint(kernel, 0.8, 0.25))
    sketch.alpha.clip(0, 1, out=sketch.alpha)


def honeycomb(sketch: Sketch, rng: np.random.Generator) -> None:
    """Seven or more hexagonal wax cells side by side, some full of honey, some empty."""
    x, y = sketch.x, sketch.y
    size = 0.36  # outer radius of one cell
    step = size * math.sqrt(3)
    wax = tint(rng.uniform(0.11, 0.14), rng.uniform(0.55, 0.75), rng.uniform(0.85, 1.0))
    centres = [(0.0, 0.0)] + [
        (step * math.sin(k * math.pi / 3 + math.pi / 6), step * math.cos(k * math.pi / 3 + math.pi / 6))
        for k in range(6)
    ]
    for column, row in centres:
        cell = regular(x - column, y - row, 6, size * 1.04)
        honey = tint(rng.uniform(0.07, 0.12), rng.uniform(0.8, 1.0), rng.choice([0.35, 0.8, 0.9]))
        sketch.paint(cell, wax)
        sketch.paint(cell + 0.06, honey, bevel=0.12)
