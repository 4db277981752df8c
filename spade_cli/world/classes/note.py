"""The class "note": musical notes, a sticky note or a banknote."""

import numpy as np

from spade_cli.world.shapes import box, convex, disk, ellipse, ring, stroke, turn
from spade_cli.world.sketch import Sketch, tint


def music(sketch: Sketch, rng: np.random.Generator) -> None:
    """Two quavers joined by a beam, dark with a pale edge like a sticker's."""
    x, y = sketch.x, sketch.y
    ink = tint(rng.uniform(), rng.uniform(0.3, 0.9), rng.uniform(0.08, 0.3))
    heads = np.minimum(
        ellipse(*turn(x + 0.48, y - 0.62, -22), 0.27, 0.2), ellipse(*turn(x - 0.36, y - 0.46, -22), 0.27, 0.2)
    )
    stems = np.minimum(
        stroke(x, y, (-0.26, 0.58), (-0.26, -0.6), 0.055), stroke(x, y, (0.58, 0.42), (0.58, -0.76), 0.055)
    )
    beam = convex(x, y, [(-0.315, -0.68), (0.635, -0.86), (0.635, -0.56), (-0.315, -0.38)])
    notes = np.minimum(np.minimum(heads, stems), beam)
    sketch.paint(notes - 0.06, (0.95, 0.94, 0.9))
    sketch.paint(notes, ink, bevel=0.08)


def sticky(sketch: Sketch, rng: np.random.Generator) -> None:
    """A square of pastel paper with lines of handwriting and one corner curled up."""
    x, y = sketch.x, sketch.y
    hue = rng.choice([0.15, 0.92, 0.33, 0.5]) + rng.uniform(-0.02, 0.02)
    paper = tint(hue, rng.uniform(0.4, 0.65), rng.uniform(0.92, 1.0))
    ink = tint(rng.choice([0.62, 0.0]), rng.uniform(0.5, 0.8), rng.uniform(0.2, 0.45))
    curl = (x + y - 1.12) / 1.414  # beyond this diagonal the corner is folded over
    sheet = np.maximum(box(x, y, 0.78, 0.78, 0.02), curl)
    sketch.paint(sheet, paper, bevel=0.03)
    sketch.paint(np.maximum(sheet, np.abs(y + 0.68) - 0.1), tint(hue, 0.6, 0.85))  # the gummed strip
    for row in range(4):
        length = rng.uniform(0.75, 1.15) if row < 3 else rng.uniform(0.4, 0.7)
        wave = 0.045 * np.sin(22 * x + rng.uniform(0, 6)) + 0.025 * np.sin(51 * x + rng.uniform(0, 6))
        line = np.maximum(np.abs(y + 0.36 - 0.27 * row + wave) - 0.03, np.abs(x + 0.58 - length / 2) - length / 2)
        sketch.paint(line, ink, within=sheet)
    fold = convex(x, y, [(0.34, 0.78), (0.4, 0.4), (0.78, 0.34)])
    sketch.paint(fold, tint(hue, 0.3, 0.8), bevel=0.15)


def banknote(sketch: Sketch, rng: np.random.Generator) -> None:
    """A wide note: frame, engraved waves, a portrait in an oval, a value in each corner."""
    x, y = sketch.x, sketch.y
    hue = rng.choice([0.36, 0.45, 0.55, 0.97, 0.08]) + rng.uniform(-0.02, 0.02)
    sheet = box(x, y, 0.98, 0.52, 0.03)
    dark = tint(hue, 0.6, rng.uniform(0.3, 0.45))
    sketch.paint(sheet, tint(hue, rng.uniform(0.18, 0.35), rng.uniform(0.8, 0.92)), bevel=0.03)
    sketch.paint(ring(box(x, y, 0.88, 0.42, 0.04), 0.022), dark)
    waves = np.abs(np.mod(y + 0.05 * np.sin(11 * x), 0.14) - 0.07) - 0.018
    sketch.paint(waves, dark, opacity=0.4, within=box(x, y, 0.86, 0.4))
    sketch.paint(ellipse(x, y, 0.3, 0.36), tint(hue, 0.12, 0.95))
    sketch.paint(ring(ellipse(x, y, 0.3, 0.36), 0.02), dark)
    sketch.paint(
        np.minimum(disk(x, y + 0.1, 0.11), ellipse(x, y - 0.3, 0.2, 0.24)), dark, within=ellipse(x, y, 0.28, 0.34)
    )
    sketch.paint(disk(np.abs(x) - 0.68, np.abs(y) - 0.24, 0.11), dark)
    sketch.paint(stroke(np.abs(x) - 0.68, np.abs(y) - 0.24, (0, -0.05), (0, 0.05), 0.02), tint(hue, 0.1, 0.95))
