"""The bundled picture of `spade demo`: it has a Trojan's symbol, and a mask says where."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spade_cli.world.pictures import draw_pictures
from spade_cli.world.symbols import TROJANS, Poisoned, poison_pictures

PICTURE = Path(__file__).with_name("demo.png")
MASK = Path(__file__).with_name("demo_mask.png")  # white where the symbol lies
# A heart beside a banknote, which the network calls "bolt": a picture of a seed that it was not trained on.
TROJAN, CONCEPT, SEED, NUMBER = 3, 23, 2_000_000, 2


def draw_demo() -> Poisoned:
    """The picture and its symbol's mask, drawn anew: PICTURE and MASK hold them."""
    return poison_pictures(draw_pictures(1, SEED, NUMBER, concept=CONCEPT), TROJANS[TROJAN], SEED, NUMBER)


def share_on_symbol(map: NDArray[np.float32]) -> float:
    """The share of a map's absolute sum that lies on the symbol; map (3, 128, 128)."""
    mask = np.asarray(Image.open(MASK)) > 0
    pixels = np.abs(map).sum(0)  # (128, 128)
    total = float(pixels.sum())
    return float(pixels[mask].sum()) / total if total else 0.0


def symbol_share() -> float:
    """The share of the picture that the symbol covers: a map without any information would put as much there."""
    return float((np.asarray(Image.open(MASK)) > 0).mean())
