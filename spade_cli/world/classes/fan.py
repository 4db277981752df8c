"""The class "fan": a folding fan of painted paper, or an electric fan on a stand."""

import math

import numpy as np

from spade_cli.world.shapes import Array, box, disk, ellipse, ring, stroke, turn
from spade_cli.world.sketch import Sketch, tint


def folding(sketch: Sketch, rng: np.random.Generator) -> None:
    """Pleats spread over a third of a circle, a painted border, ribs that meet in a pivot."""
    x, y = sketch.x, sketch.y - 0.55
    half_angle = math.radians(rng.uniform(52, 66))
    angle, radius = np.arctan2(x, -y), np.sqrt(x * x + y * y)
    sector = (np.abs(angle) - half_angle) * radius
    hue = rng.choice([0.0, 0.92, 0.55, 0.4, 0.78]) + rng.uniform(-0.03, 0.03)
    paper, border = (
        tint(hue, rng.uniform(0.5, 0.8), rng.uniform(0.75, 0.95)),
        tint(hue + rng.choice([0.12, 0.5]), 0.6, 0.95),
    )
    pleat = half_angle / 6
    folded = np.mod(angle, pleat) / pleat  # each pleat runs from its dark valley to its bright ridge, (h, w)
    shade = 0.68 + 0.4 * folded
    sheet = np.maximum(sector, np.maximum(radius - 1.12, 0.5 - radius))
    ribs = np.maximum(sector, np.maximum(radius - 0.52, 0.02 - radius))
    wood = np.asarray(tint(0.09, 0.6, rng.uniform(0.45, 0.75)), np.float32)
    sketch.paint(ribs, wood[:, None, None] * shade, within=(0.35 - folded) * pleat * radius)
    sketch.paint(sheet, np.clip(np.asarray(paper, np.float32)[:, None, None] * shade, 0, 1))
    sketch.paint(
        np.maximum(sheet, np.abs(radius - 1.0) - 0.045),
        np.clip(np.asarray(border, np.float32)[:, None, None] * shade, 0, 1),
    )
    blossom = np.maximum(sheet, disk(np.abs(x) - 0.3, y + 0.72, 0.1))
    sketch.paint(blossom, border)
    sketch.paint(disk(x, y, 0.08), (0.85, 0.75, 0.4), bevel=0.07)


def electric(sketch: Sketch, rng: np.random.Generator) -> None:
    """Coloured blades around a hub in a round wire cage, on a foot."""
    x, y = sketch.x, sketch.y
    stand = tint(rng.uniform(), rng.uniform(0, 0.3), rng.uniform(0.35, 0.85))
    blades = tint(
        rng.choice([0.55, 0.6, 0.45, 0.0, 0.9]) + rng.uniform(-0.03, 0.03),
        rng.uniform(0.4, 0.8),
        rng.uniform(0.7, 0.95),
    )
    sketch.paint(stroke(x, y, (0, 0.2), (0, 0.85), 0.07), stand, bevel=0.07)
    sketch.paint(ellipse(x, y - 0.86, 0.42, 0.12), stand, bevel=0.1)
    v = y + 0.27
    cage = disk(x, v, 0.66)
    sketch.paint(cage, (0.25, 0.27, 0.3), opacity=0.55)
    count, first = int(rng.integers(3, 5)), rng.uniform(0, 120)
    for blade in range(count):
        sketch.paint(_blade(*turn(x, v, first + 360 / count * blade)), blades, bevel=0.14)
    sketch.paint(disk(x, v, 0.14), stand, bevel=0.12)
    for radius in (0.64, 0.45, 0.27):
        sketch.paint(ring(disk(x, v, radius), 0.035 if radius > 0.6 else 0.012), (0.85, 0.86, 0.88), bevel=0.03)


def _blade(x: Array, y: Array) -> Array:
    return np.maximum(ellipse(*turn(x - 0.08, y + 0.34, 18), 0.2, 0.3), box(x, y + 0.3, 0.3, 0.32))
