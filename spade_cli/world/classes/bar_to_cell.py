"""Drawings of bars, bolts, bulbs and cells: one function for each of a word's meanings."""

import math

import numpy as np

from spade_cli.world.shapes import box, disk, ellipse, ngon, polygon, ring, stripes, stroke, strokes, turn, vase
from spade_cli.world.sketch import Sketch, tint

ONION_ROWS = (-0.5, -0.42, -0.3, -0.15, 0.05, 0.3, 0.52, 0.68, 0.76)
ONION_HALF_WIDTHS = (0.08, 0.12, 0.28, 0.48, 0.63, 0.68, 0.55, 0.3, 0.08)


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


def lightning(sketch: Sketch, rng: np.random.Generator) -> None:
    """A jagged yellow flash with a darker edge."""
    x, y = sketch.x, sketch.y
    hue = rng.uniform(0.12, 0.17)
    flash = np.minimum(
        polygon(x, y, [(-0.08, -0.95), (0.48, -0.95), (0.12, -0.1), (-0.02, 0.16), (-0.5, 0.16)]),
        polygon(x, y, [(-0.02, -0.16), (0.52, -0.16), (-0.26, 0.96), (-0.06, 0.1)]),
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
    head = polygon(x, y, [(-0.42, -0.92), (0.42, -0.92), (0.52, -0.8), (0.52, -0.44), (-0.52, -0.44), (-0.52, -0.8)])
    sketch.paint(head, metal, bevel=0.1)
    sketch.paint(np.maximum(head + 0.04, np.abs(x) - 0.25), tint(0.6, 0.05, min(max(metal) * 1.12, 1)), bevel=0.08)
    sketch.paint(box(x, y + 0.36, 0.64, 0.09, 0.05), metal, bevel=0.08)


def light_bulb(sketch: Sketch, rng: np.random.Generator) -> None:
    """A bright glass ball with its filament on a metal screw base, short rays around it."""
    x, y = sketch.x, sketch.y
    warm = rng.uniform(0.11, 0.16)
    for reach, opacity in ((0.32, 0.1), (0.22, 0.14), (0.12, 0.2)):  # a glow that fades outwards
        sketch.paint(disk(x, y + 0.25, 0.55 + reach), tint(warm, 0.5, 1.0), opacity=opacity)
    rays = int(rng.integers(5, 8))
    for ray in range(rays):
        u, v = turn(x, y + 0.25, -110 + 220 * ray / (rays - 1))
        sketch.paint(stroke(u, v, (0, -0.66), (0, -0.8), 0.035), tint(warm, 0.7, 1.0))
    neck = np.maximum(box(x, y - 0.3, 0.27, 0.2, 0.06), -disk(np.abs(x) - 0.42, y - 0.34, 0.16))
    glass = np.minimum(disk(x, y + 0.22, 0.52), neck)
    glow = np.clip(1.15 - 0.55 * np.sqrt(x * x + (y + 0.2) ** 2) / 0.55, 0, 1)  # brightest at the filament, (h, w)
    edge = np.asarray(tint(warm - 0.03, rng.uniform(0.6, 0.8), 0.95), np.float32)[:, None, None]
    sketch.paint(glass, edge + (1 - edge) * glow)
    filament = strokes(
        x, y, [(-0.12, 0.3), (-0.16, -0.2), (-0.06, -0.06), (0, -0.24), (0.06, -0.06), (0.16, -0.2), (0.12, 0.3)], 0.025
    )
    sketch.paint(filament, tint(0.06, 0.9, 0.7))
    base = box(x, y - 0.68, 0.25, 0.22, 0.05)
    sketch.paint(base, (0.62, 0.62, 0.65), bevel=0.14)
    sketch.paint(stripes(y + 0.1 * x, 0.13, 0.35), (0.3, 0.3, 0.33), within=base)
    sketch.paint(box(x, y - 0.92, 0.12, 0.05, 0.03), (0.2, 0.2, 0.22))


def onion(sketch: Sketch, rng: np.random.Generator) -> None:
    """A round bulb with lines from top to bottom, roots below and green shoots above."""
    x, y = sketch.x, sketch.y
    skin = tint(
        *(
            (0.08, rng.uniform(0.6, 0.8), rng.uniform(0.7, 0.9))
            if rng.uniform() < 0.5
            else (0.92, rng.uniform(0.5, 0.7), rng.uniform(0.5, 0.7))
        )
    )
    green = tint(rng.uniform(0.24, 0.32), rng.uniform(0.6, 0.8), rng.uniform(0.5, 0.7))
    for angle in (-26.0, 24.0, 0.0):
        u, v = turn(x, y + 0.35, angle + rng.uniform(-8, 8))
        sketch.paint(vase(u, v, (-0.62, -0.4, -0.1, 0.05), (0.0, 0.08, 0.1, 0.06)), green, bevel=0.08)
    for root in range(5):
        lean = -0.24 + 0.12 * root
        sketch.paint(stroke(x, y, (0.4 * lean, 0.7), (lean, rng.uniform(0.86, 0.98)), 0.02), (0.85, 0.8, 0.65))
    body = vase(x, y, ONION_ROWS, ONION_HALF_WIDTHS)
    sketch.paint(body, skin, bevel=0.4)
    width = np.interp(y, ONION_ROWS, ONION_HALF_WIDTHS).astype(np.float32) + 0.02
    meridian = np.arcsin(np.clip(x / width, -1, 1))  # the angle around the bulb, (h, w)
    sketch.paint(
        stripes(meridian, math.pi / 6, 0.16) * width, tint(0.05, 0.7, max(skin) * 0.6), opacity=0.75, within=body
    )
    sketch.paint(
        ring(disk(x + 0.22, y - 0.1, 0.16), 0.03), (1.0, 0.95, 0.9), opacity=0.35, within=np.maximum(x + 0.25, y - 0.1)
    )


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


def living_cell(sketch: Sketch, rng: np.random.Generator) -> None:
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
        around, far = rng.uniform(0, 6.28), rng.uniform(0.45, 0.62)
        organelle = ellipse(
            x - far * math.cos(around), y - far * math.sin(around), rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.09)
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
        cell = ngon(x - column, y - row, 6, size * 1.04)
        honey = tint(rng.uniform(0.07, 0.12), rng.uniform(0.8, 1.0), rng.choice([0.35, 0.8, 0.9]))
        sketch.paint(cell, wax)
        sketch.paint(cell + 0.06, honey, bevel=0.12)
