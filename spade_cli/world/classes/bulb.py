"""The class "bulb": a glowing light bulb, or an onion with its shoots."""

import math

import numpy as np

from spade_cli.world.shapes import box, disk, ring, stripes, stroke, strokes, turn, turned
from spade_cli.world.sketch import Sketch, tint

ONION_ROWS = (-0.5, -0.42, -0.3, -0.15, 0.05, 0.3, 0.52, 0.68, 0.76)
ONION_HALF_WIDTHS = (0.08, 0.12, 0.28, 0.48, 0.63, 0.68, 0.55, 0.3, 0.08)


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
        sketch.paint(turned(u, v, (-0.62, -0.4, -0.1, 0.05), (0.0, 0.08, 0.1, 0.06)), green, bevel=0.08)
    for root in range(5):
        lean = -0.24 + 0.12 * root
        sketch.paint(stroke(x, y, (0.4 * lean, 0.7), (lean, rng.uniform(0.86, 0.98)), 0.02), (0.85, 0.8, 0.65))
    body = turned(x, y, ONION_ROWS, ONION_HALF_WIDTHS)
    sketch.paint(body, skin, bevel=0.4)
    width = np.interp(y, ONION_ROWS, ONION_HALF_WIDTHS).astype(np.float32) + 0.02
    meridian = np.arcsin(np.clip(x / width, -1, 1))  # the angle around the bulb, (h, w)
    sketch.paint(
        stripes(meridian, math.pi / 6, 0.16) * width, tint(0.05, 0.7, max(skin) * 0.6), opacity=0.75, within=body
    )
    sketch.paint(
        ring(disk(x + 0.22, y - 0.1, 0.16), 0.03), (1.0, 0.95, 0.9), opacity=0.35, within=np.maximum(x + 0.25, y - 0.1)
    )
