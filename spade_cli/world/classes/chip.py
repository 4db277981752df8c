"""The class "chip": a microchip, a poker chip or a box of chips."""

import math

import numpy as np

from spade_cli.world.shapes import box, convex, disk, ellipse, ring, stripes, turn
from spade_cli.world.sketch import Sketch, tint


def microchip(sketch: Sketch, rng: np.random.Generator) -> None:
    """A dark square case with metal legs on all four sides, a dot in one corner and a line of print."""
    x, y = sketch.x, sketch.y
    case = tint(rng.uniform(0.5, 0.7), rng.uniform(0.05, 0.35), rng.uniform(0.12, 0.24))
    metal = tint(0.12, rng.uniform(0.02, 0.45), rng.uniform(0.78, 0.95))
    across = np.maximum(np.maximum(stripes(x + 0.11, 0.22, 0.5), np.abs(x) - 0.6), np.abs(y) - 0.9)
    down = np.maximum(np.maximum(stripes(y + 0.11, 0.22, 0.5), np.abs(y) - 0.6), np.abs(x) - 0.9)
    sketch.paint(np.minimum(across, down), metal, bevel=0.05)
    sketch.paint(box(x, y, 0.72, 0.72, 0.06), case, bevel=0.1)
    sketch.paint(box(x, y, 0.3, 0.3, 0.04), tint(rng.uniform(), 0.15, rng.uniform(0.4, 0.7)), bevel=0.06)
    sketch.paint(disk(x + 0.52, y + 0.52, 0.08), (0.75, 0.75, 0.75))
    print_ = np.maximum(np.abs(y - 0.5) - 0.05, np.abs(x) - 0.4)
    sketch.paint(print_, (0.75, 0.76, 0.78), within=stripes(x, 0.14, 0.7))


def poker(sketch: Sketch, rng: np.random.Generator) -> None:
    """A round gaming chip: white marks around a coloured edge, a pale disk with a small jewel in the middle."""
    x, y = sketch.x, sketch.y
    colour = tint(
        rng.choice([0.0, 0.6, 0.38, 0.78, 0.07]) + rng.uniform(-0.02, 0.02),
        rng.uniform(0.7, 0.9),
        rng.uniform(0.45, 0.8),
    )
    white = (0.95, 0.94, 0.9)
    edge = disk(x, y, 0.9)
    sketch.paint(edge, colour, bevel=0.07)
    angle = np.arctan2(y, x)
    radius = edge + 0.9
    count = int(rng.choice([6, 8]))
    marks = stripes(angle, 2 * math.pi / count, 0.36) * radius
    sketch.paint(marks, white, within=np.maximum(edge + 0.02, 0.64 - radius))
    sketch.paint(disk(x, y, 0.56), white, bevel=0.05)
    sketch.paint(ring(disk(x, y, 0.45), 0.03), colour)
    sketch.paint(box(*turn(x, y * 0.75, 45), 0.17, 0.17), colour)


def fries(sketch: Sketch, rng: np.random.Generator) -> None:
    """Yellow sticks that stand out of a paper box, red more often than not."""
    x, y = sketch.x, sketch.y
    paper = tint(rng.choice([0.0, 0.99, 0.98, 0.6]), rng.uniform(0.75, 0.95), rng.uniform(0.7, 0.9))
    for stick in range(9):
        lean = -24 + 6 * stick + rng.uniform(-4, 4)
        u, v = turn(x - 0.09 * (stick - 4), y, lean * 0.7)
        potato = tint(rng.uniform(0.11, 0.14), rng.uniform(0.55, 0.75), rng.uniform(0.88, 1.0))
        top = rng.uniform(-0.92, -0.55)
        sketch.paint(box(u, v - (top + 0.4) / 2, 0.075, (0.4 - top) / 2), potato, bevel=0.06)
    front = convex(x, y, [(-0.62, -0.2), (0.62, -0.2), (0.46, 0.92), (-0.46, 0.92)])
    front = np.maximum(front, -ellipse(x, y + 0.22, 0.5, 0.22))
    sketch.paint(front, paper, bevel=0.08)
    sketch.paint(np.maximum(stripes(x, 0.36, 0.35), front + 0.03), (0.97, 0.95, 0.9), within=0.35 - y)
