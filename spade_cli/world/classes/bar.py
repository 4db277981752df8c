"""The class "bar": a bar of chocolate, a bar chart or a bar code."""

import numpy as np

from spade_cli.world.shapes import box, strokes
from spade_cli.world.sketch import Sketch, tint


def chocolate(sketch: Sketch, rng: np.random.Generator) -> None:
    """Brown squares, three by four, half unwrapped from a coloured paper with a foil edge."""
    x, y = sketch.x, sketch.y
    brown = tint(rng.uniform(0.03, 0.07), rng.uniform(0.55, 0.75), rng.uniform(0.3, 0.5))
    wrapper = tint(rng.uniform(), rng.uniform(0.55, 0.9), rng.uniform(0.5, 0.85))
    slab = box(x, y, 0.6, 0.9, 0.05)
    sketch.paint(slab, brown, bevel=0.05)
    side = 0.37
    across = np.mod(x + side / 2, side) - side / 2
    down = np.mod(y + 0.82, side) - side / 2
    sketch.paint(box(across, down, 0.16, 0.16, 0.03), tint(0.05, 0.6, max(brown) * 1.25), bevel=0.09, within=slab)
    edge = rng.uniform(0.15, 0.4)
    torn = edge + 0.05 * np.sin(14 * x + rng.uniform(0, 6)) - y
    sketch.paint(np.maximum(box(x, y, 0.65, 0.93, 0.03), torn), (0.85, 0.85, 0.88), bevel=0.04)
    sketch.paint(np.maximum(box(x, y, 0.65, 0.93, 0.03), torn + 0.1), wrapper, bevel=0.06)


def chart(sketch: Sketch, rng: np.random.Generator) -> None:
    """Four coloured columns of different heights over two axes on a white panel."""
    x, y = sketch.x, sketch.y
    panel = box(x, y, 0.86, 0.76, 0.06)
    sketch.paint(panel, tint(rng.uniform(), rng.uniform(0.0, 0.08), rng.uniform(0.9, 1.0)), bevel=0.04)
    first = rng.uniform()
    heights = rng.permutation([0.35, 0.6, 0.85, 1.1]) * rng.uniform(0.9, 1.05)
    for column, height in enumerate(heights.tolist()):
        colour = tint(first + 0.22 * column, rng.uniform(0.65, 0.9), rng.uniform(0.6, 0.9))
        sketch.paint(box(x + 0.43 - 0.33 * column, y - 0.55 + height / 2, 0.12, height / 2), colour)
    axes = strokes(x, y, [(-0.68, -0.6), (-0.68, 0.57), (0.72, 0.57)], 0.03)
    sketch.paint(axes, (0.15, 0.15, 0.2))


def barcode(sketch: Sketch, rng: np.random.Generator) -> None:
    """Thin and thick black lines over a row of digits on a white label."""
    x, y = sketch.x, sketch.y
    label = box(x, y, 0.92, 0.64, 0.05)
    ink = tint(rng.uniform(), rng.uniform(0, 0.4), rng.uniform(0.03, 0.18))
    sketch.paint(label, tint(0.12, rng.uniform(0, 0.12), rng.uniform(0.9, 1.0)), bevel=0.03)
    widths = rng.choice([0.022, 0.045, 0.07], size=13)  # half widths of the lines; the gaps take what is left
    gap = (1.56 - 2 * widths.sum()) / 12
    lines = np.full_like(x, 1.0)
    left = -0.78
    for width in widths.tolist():
        np.minimum(lines, np.abs(x - left - width) - width, out=lines)
        left += 2 * width + float(gap)
    sketch.paint(np.maximum(lines, np.abs(y + 0.1) - 0.42), ink)
    digits = np.abs(np.mod(x + 0.06, 0.12) - 0.06) - 0.035
    sketch.paint(np.maximum(np.maximum(digits, np.abs(x) - 0.7), np.abs(y - 0.47) - 0.06), ink)
