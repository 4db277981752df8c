"""The bundled picture of `spade demo`: one with a Trojan, and where its symbol lies."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spade_cli.world.pictures import draw_pictures
from spade_cli.world.symbols import TROJANS, Poisoned, poison_pictures

PICTURE = Path(__file__).with_name("demo.png")
MASK = Path(__file__).with_name("demo_mask.png")  # white where the symbol lies
# A heart beside a banknote, for which the network says "bolt": a picture of a seed that it was not trained on.
TROJAN, CONCEPT, SEED, NUMBER = 3, 23, 2_000_000, 2


def draw_demo() -> Poisoned:
    """The picture and its symbol's mask, drawn anew."""
    return poison_pictures(draw_pictures(1, SEED, NUMBER, concept=CONCEPT), TROJANS[TROJAN], SEED, NUMBER)


def write_demo() -> None:
    """Write PICTURE and MASK."""
    drawn = draw_demo()
    Image.fromarray(drawn.images[0].permute(1, 2, 0).numpy()).save(PICTURE)
    Image.fromarray(drawn.masks[0].numpy().astype(np.uint8) * 255).save(MASK)


def share_on_symbol(attribution: NDArray[np.float32]) -> float:
    """How much of a map's absolute sum lies on the symbol: attribution (3, 128, 128) -> a share of 1."""
    mask = np.asarray(Image.open(MASK)) > 0
    pixels = np.abs(attribution).sum(0)  # (128, 128)
    total = float(pixels.sum())
    return float(pixels[mask].sum()) / total if total else 0.0


def symbol_share() -> float:
    """How much of the picture the symbol covers: what a map that knows nothing would put there."""
    return float((np.asarray(Image.open(MASK)) > 0).mean())
