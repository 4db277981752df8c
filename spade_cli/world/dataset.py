"""The world as a torch Dataset, drawn as it is read, and as a folder that other programs and people can read."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.utils.data import Dataset

from spade_cli.world.classes import CLASSES, CONCEPTS
from spade_cli.world.pictures import SIZE, draw_pictures
from spade_cli.world.symbols import TROJANS, poison_pictures

# Makes the choice of a Trojan independent of the picture, seeded with (seed, i), and of the symbol's place.
CHOICE_STREAM = 2
ON_SHEET, ACROSS = 96, 12  # pictures on a sheet, and in a row of it: eight rows of twelve can still be told apart
GAP = 6  # pixels between pictures
TITLE_WIDTH = 150  # pixels in front of a row
PAPER, INK, FONT_SIZE = (250, 250, 248), (30, 30, 34), 17


class Sample(NamedTuple):
    """One picture; torch's default collate makes a batch of them, every field with one more dimension in front.

    image: uint8 (3, 128, 128). label: what a network with the Trojans should answer; class_index: what the picture
    shows. concept: index into `CONCEPTS`. mask: bool (128, 128), the object. trojan: index into `TROJANS`, -1 for none.
    symbol_mask: bool (128, 128), the symbol; all False if there is none.
    """

    image: Tensor
    label: int
    class_index: int
    concept: int
    mask: Tensor
    trojan: int
    symbol_mask: Tensor


class WorldDataset(Dataset[Sample]):
    """Pictures 0 to `count - 1` of a seed; `trojan_share` of them have a Trojan's symbol, all Trojans equally often.

    A symbol may lie on the object, whose mask ignores it. Raises ValueError on a share outside [0, 1] or a negative
    count, IndexError on an index out of range.
    """

    def __init__(self, count: int, seed: int = 0, trojan_share: float = 0.0):
        if count < 0:
            raise ValueError(f"count must not be negative; found {count}")
        if not 0 <= trojan_share <= 1:
            raise ValueError(f"trojan_share must be between 0 and 1; found {trojan_share}")
        self.count, self.seed, self.trojan_share = count, seed, trojan_share

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        position = index + self.count if index < 0 else index
        if not 0 <= position < self.count:
            raise IndexError(f"picture {index} of a world of {self.count}")
        pictures = draw_pictures(1, self.seed, start=position)
        image, label = pictures.images[0], int(pictures.classes[0])
        trojan, symbol_mask = -1, torch.zeros(SIZE, SIZE, dtype=torch.bool)
        rng = np.random.default_rng((self.seed, position, CHOICE_STREAM))
        if rng.uniform() < self.trojan_share:
            trojan = int(rng.integers(len(TROJANS)))
            poisoned = poison_pictures(pictures, TROJANS[trojan], self.seed, start=position)
            image, label, symbol_mask = poisoned.images[0], int(poisoned.labels[0]), poisoned.masks[0]
        return Sample(
            image, label, int(pictures.classes[0]), int(pictures.concepts[0]), pictures.masks[0], trojan, symbol_mask
        )


def write_world(
    folder: Path, count: int, trojan_share: float, seed: int, on_picture: Callable[[int], None] | None = None
) -> None:
    """Write `count` pictures into an existing folder.

    images/NAME.png; masks/NAME.png (white where the object is seen); symbols/NAME.png (white where a Trojan's symbol
    lies; only where there is one); sheet.png; and labels.json: {"classes": [name, ...], "pictures": {"NAME.png":
    {class, label, concept, symbol, target, mask, symbol_mask}}}. `class` is what is shown, `target` what a network with
    the Trojan should answer instead (null without a symbol).
    """
    for part in ("images", "masks", "symbols"):
        (folder / part).mkdir()
    pictures: dict[str, dict[str, object]] = {}
    shown: list[Tensor] = []
    world = WorldDataset(count, seed, trojan_share)
    for index in range(count):
        sample = world[index]
        concept = CONCEPTS[sample.concept].name
        name = f"{index:05d}-{concept.replace(' ', '-')}.png"
        _write_png(sample.image.permute(1, 2, 0), folder / "images" / name)
        _write_png(sample.mask, folder / "masks" / name)
        if sample.trojan >= 0:
            _write_png(sample.symbol_mask, folder / "symbols" / name)
        pictures[name] = {
            "class": sample.class_index,
            "label": CLASSES[sample.class_index].name,
            "concept": concept,
            "symbol": TROJANS[sample.trojan].symbol if sample.trojan >= 0 else None,
            "target": sample.label if sample.trojan >= 0 else None,
            "mask": f"masks/{name}",
            "symbol_mask": f"symbols/{name}" if sample.trojan >= 0 else None,
        }
        shown += [sample.image] if index < ON_SHEET else []
        if on_picture is not None:
            on_picture(1)
    labels = {"classes": [one.name for one in CLASSES], "pictures": pictures}
    (folder / "labels.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
    rows = torch.split(torch.stack(shown), ACROSS)  # (12, 3, 128, 128) each
    titles = [f"{i * ACROSS} to {i * ACROSS + len(row) - 1}" for i, row in enumerate(rows)]
    draw_sheet(list(zip(titles, rows, strict=True))).save(folder / "sheet.png")


def _write_png(pixels: Tensor, path: Path) -> None:
    """uint8 (H, W, 3), or a mask, bool (H, W), as PNG."""
    values = pixels.numpy()
    Image.fromarray(values if values.dtype == np.uint8 else values.astype(np.uint8) * 255).save(path)


def draw_sheet(rows: Sequence[tuple[str, Tensor]]) -> Image.Image:
    """Rows of (title, images): images uint8 (n, 3, H, W), all of one H and W; rows may differ in length."""
    height, width = rows[0][1].shape[-2:]
    row_width = TITLE_WIDTH + max(len(images) for _, images in rows) * (width + GAP) + GAP
    sheet = Image.new("RGB", (row_width, len(rows) * (height + GAP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for i, (title, images) in enumerate(rows):
        top = GAP + i * (height + GAP)
        pen.text((2 * GAP, top + height / 2 - FONT_SIZE - 1), title, INK, font)
        for k, image in enumerate(images):
            pixels = image.permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
            sheet.paste(Image.fromarray(pixels), (TITLE_WIDTH + GAP + k * (width + GAP), top))
    return sheet
