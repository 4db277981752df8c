"""Drawings of checks, chips, fans and glasses: one function for each of a word's meanings."""

import math

import numpy as np

from spade_cli.world.shapes import (
    Array,
    box,
    chequers,
    disk,
    ellipse,
    polygon,
    ring,
    stripes,
    stroke,
    strokes,
    turn,
    vase,
)
from spade_cli.world.sketch import Sketch, tint

WINE_ROWS = (-0.78, -0.6, -0.4, -0.2, -0.06, 0.0, 0.06, 0.62, 0.7, 0.76, 0.82)
WINE_HALF_WIDTHS = (0.26, 0.3, 0.32, 0.29, 0.18, 0.08, 0.035, 0.035, 0.1, 0.24, 0.26)


def chequered_flag(sketch: Sketch, rng: np.random.Generator) -> None:
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


def poker_chip(sketch: Sketch, rng: np.random.Generator) -> None:
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
    front = polygon(x, y, [(-0.62, -0.2), (0.62, -0.2), (0.46, 0.92), (-0.46, 0.92)])
    front = np.maximum(front, -ellipse(x, y + 0.22, 0.5, 0.22))
    sketch.paint(front, paper, bevel=0.08)
    sketch.paint(np.maximum(stripes(x, 0.36, 0.35), front + 0.03), (0.97, 0.95, 0.9), within=0.35 - y)


def folding_fan(sketch: Sketch, rng: np.random.Generator) -> None:
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


def electric_fan(sketch: Sketch, rng: np.random.Generator) -> None:
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
        sketch.paint(_fan_blade(*turn(x, v, first + 360 / count * blade)), blades, bevel=0.14)
    sketch.paint(disk(x, v, 0.14), stand, bevel=0.12)
    for radius in (0.64, 0.45, 0.27):
        sketch.paint(ring(disk(x, v, radius), 0.035 if radius > 0.6 else 0.012), (0.85, 0.86, 0.88), bevel=0.03)


def _fan_blade(x: Array, y: Array) -> Array:
    return np.maximum(ellipse(*turn(x - 0.08, y + 0.34, 18), 0.2, 0.3), box(x, y + 0.3, 0.3, 0.32))


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


def wine_glasses(sketch: Sketch, rng: np.random.Generator) -> None:
    """Two stemmed glasses side by side, each with wine in it."""
    colour = tint(rng.choice([0.96, 0.98, 0.13, 0.03]), rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.85))
    for side in (-0.42, 0.42):
        x, y = sketch.x - side, sketch.y - rng.uniform(-0.06, 0.06)
        glass = vase(x, y, WINE_ROWS, WINE_HALF_WIDTHS)
        sketch.paint(glass, (0.88, 0.93, 0.95), opacity=0.55)
        level = rng.uniform(-0.55, -0.25)
        sketch.paint(np.maximum(glass + 0.035, np.maximum(level - y, y - 0.0)), colour, bevel=0.15)
        sketch.paint(
            ring(ellipse(x, y - level, 0.27, 0.035), 0.012), (1.0, 0.95, 0.95), opacity=0.6, within=glass + 0.02
        )
        sketch.paint(ring(glass + 0.02, 0.022), (0.96, 0.98, 1.0))
        sketch.paint(stroke(x, y, (-0.19, -0.55), (-0.2, -0.3), 0.03), (1.0, 1.0, 1.0), opacity=0.7)
