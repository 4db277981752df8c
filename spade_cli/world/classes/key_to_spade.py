"""Drawings of keys, notes, pins and spades: one function for each of a word's meanings."""

import numpy as np

from spade_cli.world.shapes import Array, box, disk, ellipse, heart, polygon, ring, stripes, stroke, turn, vase
from spade_cli.world.sketch import Sketch, tint

PIN_ROWS = (-0.95, -0.92, -0.84, -0.72, -0.58, -0.42, -0.28, -0.1, 0.12, 0.35, 0.6, 0.8, 0.93)
PIN_HALF_WIDTHS = (0.04, 0.1, 0.17, 0.2, 0.18, 0.14, 0.14, 0.2, 0.3, 0.36, 0.33, 0.25, 0.2)


def door_key(sketch: Sketch, rng: np.random.Generator) -> None:
    """A metal key: a ring to hold, a shaft, a bit with teeth."""
    x, y = sketch.x, sketch.y
    metal = tint(
        *(
            (0.12, rng.uniform(0.5, 0.75), rng.uniform(0.7, 0.95))
            if rng.uniform() < 0.6
            else (0.6, 0.08, rng.uniform(0.6, 0.85))
        )
    )
    shaft = stroke(x, y, (0, -0.3), (0, 0.88), 0.085)
    collar = box(x, y + 0.2, 0.16, 0.05, 0.03)
    lengths = rng.permutation([0.22, 0.3, 0.38]).tolist()
    bit = np.minimum(
        np.minimum(box(x - 0.2, y - 0.4, lengths[0], 0.075, 0.02), box(x - 0.2, y - 0.8, lengths[2], 0.075, 0.02)),
        np.minimum(box(x - 0.14, y - 0.6, lengths[1] * 0.8, 0.055, 0.02), box(x - 0.12, y - 0.6, 0.12, 0.26, 0.02)),
    )
    bow = ring(disk(x, y + 0.6, 0.27), 0.105)
    sketch.paint(np.minimum(np.minimum(np.minimum(shaft, collar), np.maximum(bit, -x)), bow), metal, bevel=0.1)


def piano_keys(sketch: Sketch, rng: np.random.Generator) -> None:
    """Seven white keys and five black ones in their groups of two and three, under a wooden rail."""
    x, y = sketch.x, sketch.y
    wood = tint(rng.uniform(0.0, 0.08), rng.uniform(0.4, 0.8), rng.uniform(0.15, 0.45))
    ivory = tint(0.13, rng.uniform(0.02, 0.14), rng.uniform(0.9, 1.0))
    sketch.paint(box(x, y, 0.97, 0.66, 0.04), wood, bevel=0.06)
    width = 0.26  # of a white key
    keys = box(x, y - 0.1, 3.5 * width, 0.5, 0.02)
    sketch.paint(keys, (0.3, 0.3, 0.3))
    sketch.paint(stripes(x, width, 0.88), ivory, bevel=0.05, within=keys)
    for place in (-2.5, -1.5, 0.5, 1.5, 2.5):
        sketch.paint(box(x - place * width, y + 0.1, 0.082, 0.31, 0.02), (0.09, 0.09, 0.1), bevel=0.06)


def music_notes(sketch: Sketch, rng: np.random.Generator) -> None:
    """Two quavers joined by a beam, dark with a pale edge like a sticker's."""
    x, y = sketch.x, sketch.y
    ink = tint(rng.uniform(), rng.uniform(0.3, 0.9), rng.uniform(0.08, 0.3))
    heads = np.minimum(
        ellipse(*turn(x + 0.48, y - 0.62, -22), 0.27, 0.2), ellipse(*turn(x - 0.36, y - 0.46, -22), 0.27, 0.2)
    )
    stems = np.minimum(
        stroke(x, y, (-0.26, 0.58), (-0.26, -0.6), 0.055), stroke(x, y, (0.58, 0.42), (0.58, -0.76), 0.055)
    )
    beam = polygon(x, y, [(-0.315, -0.68), (0.635, -0.86), (0.635, -0.56), (-0.315, -0.38)])
    notes = np.minimum(np.minimum(heads, stems), beam)
    sketch.paint(notes - 0.06, (0.95, 0.94, 0.9))
    sketch.paint(notes, ink, bevel=0.08)


def sticky_note(sketch: Sketch, rng: np.random.Generator) -> None:
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
    fold = polygon(x, y, [(0.34, 0.78), (0.4, 0.4), (0.78, 0.34)])
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


def bowling_pin(sketch: Sketch, rng: np.random.Generator) -> None:
    """A white pin with two coloured bands around its neck."""
    x, y = sketch.x, sketch.y
    white = tint(rng.uniform(0.08, 0.15), rng.uniform(0.02, 0.15), rng.uniform(0.88, 0.98))
    band = tint(rng.choice([0.99, 0.0, 0.6, 0.35]), rng.uniform(0.75, 0.95), rng.uniform(0.6, 0.85))
    body = vase(x, y, PIN_ROWS, PIN_HALF_WIDTHS)
    sketch.paint(body, white, bevel=0.26)
    bow = 0.03 - 0.6 * x * x  # bands hang down in the middle, as on a round neck
    sketch.paint(np.maximum(body + 0.01, np.abs(y + 0.45 - bow) - 0.05), band, bevel=0.2)
    sketch.paint(np.maximum(body + 0.01, np.abs(y + 0.27 - bow) - 0.05), band, bevel=0.2)


def map_pin(sketch: Sketch, rng: np.random.Generator) -> None:
    """A drop standing on its tip with a white eye, over a small shadow on the map."""
    x, y = sketch.x, sketch.y
    colour = tint(
        rng.choice([0.0, 0.03, 0.33, 0.58, 0.78, 0.12]) + rng.uniform(-0.02, 0.02),
        rng.uniform(0.7, 0.95),
        rng.uniform(0.7, 0.95),
    )
    sketch.paint(ellipse(x, y - 0.86, 0.32, 0.09), (0.1, 0.1, 0.1), opacity=0.45)
    # the sides leave the disk where they touch it: the tip is 1.2 away from a centre of radius 0.58
    drop = np.minimum(disk(x, y + 0.32, 0.58), polygon(x, y, [(-0.51, -0.04), (0.51, -0.04), (0, 0.9)]))
    sketch.paint(drop, colour, bevel=0.2)
    sketch.paint(disk(x, y + 0.32, 0.25), (0.97, 0.97, 0.95))


def garden_spade(sketch: Sketch, rng: np.random.Generator) -> None:
    """A pointed steel blade under a wooden handle with a grip."""
    x, y = sketch.x, sketch.y
    wood = tint(rng.uniform(0.05, 0.1), rng.uniform(0.5, 0.75), rng.uniform(0.55, 0.8))
    steel = tint(rng.uniform(0.5, 0.65), rng.uniform(0.05, 0.25), rng.uniform(0.55, 0.8))
    grip = tint(rng.choice([0.0, 0.03, 0.35, 0.6]), rng.uniform(0.6, 0.9), rng.uniform(0.4, 0.75))
    sketch.paint(stroke(x, y, (0, -0.7), (0, 0.2), 0.075), wood, bevel=0.07)
    sketch.paint(ring(box(x, y + 0.78, 0.26, 0.15, 0.1), 0.06), grip, bevel=0.06)
    blade = np.maximum(box(x, y - 0.45, 0.4, 0.6, 0.08), ellipse(x, y - 0.2, 0.52, 0.78))
    sketch.paint(np.maximum(blade, 0.08 - y), steel, bevel=0.16)
    sketch.paint(polygon(x, y, [(-0.08, -0.16), (0.08, -0.16), (0.13, 0.3), (0, 0.62), (-0.13, 0.3)]), steel, bevel=0.1)


def spade_suit(x: Array, y: Array, size: float) -> Array:
    """The figure on the card: a heart upside down on a stem, about 2 `size` wide."""
    stem = polygon(x, y, [(0, 0.1 * size), (0.38 * size, 1.02 * size), (-0.38 * size, 1.02 * size)])
    return np.minimum(heart(x, -y - 0.05 * size, size), stem)


def ace_of_spades(sketch: Sketch, rng: np.random.Generator) -> None:
    """The ace of spades: a white card, one large black suit and two small ones."""
    x, y = sketch.x, sketch.y
    paper = tint(rng.uniform(0.08, 0.16), rng.uniform(0.0, 0.15), rng.uniform(0.9, 1.0))
    ink = tint(rng.uniform(0.6, 0.75), rng.uniform(0.0, 0.5), rng.uniform(0.05, 0.2))
    card = box(x, y, 0.62, 0.88, 0.1)
    sketch.paint(card, paper, bevel=0.04)
    sketch.paint(spade_suit(x, y, rng.uniform(0.32, 0.4)), ink)
    sketch.paint(spade_suit(x + 0.44, y + 0.66, 0.11), ink)
    sketch.paint(spade_suit(x - 0.44, 0.66 - y, 0.11), ink)
