"""The class "key": a door key, or the keys of a piano."""

import numpy as np

from spade_cli.world.shapes import box, disk, ring, stripes, stroke
from spade_cli.world.sketch import Sketch, tint


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


def piano(sketch: Sketch, rng: np.random.Generator) -> None:
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
