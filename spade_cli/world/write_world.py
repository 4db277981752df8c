"""The world on disk: pictures, masks and labels that other programs can read, and a sheet that people can."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spade_cli.world.classes import CLASSES, CONCEPTS
from spade_cli.world.dataset import WorldDataset
from spade_cli.world.sheet import contact_sheet
from spade_cli.world.symbols import TROJANS

ON_THE_SHEET = 96  # pictures: eight rows of twelve can still be told apart
ACROSS = 12


def write_world(
    folder: Path, count: int, trojan_share: float, seed: int, on_picture: Callable[[int], None] | None = None
) -> None:
    """Write `count` pictures into an existing folder.

    images/NAME.png; masks/NAME.png (white where the object is seen); symbols/NAME.png (white where a Trojan's symbol
    lies; only where there is one); sheet.png; and labels.json: {"classes": [name, ...], "pictures": {"NAME.png":
    {class, label, concept, symbol, target, mask, symbol_mask}}}, where `class` is what is shown and `target` what a
    network with the Trojan should answer instead (null without a symbol).
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
        _save(sample.image.permute(1, 2, 0), folder / "images" / name)
        _save(sample.mask, folder / "masks" / name)
        if sample.trojan >= 0:
            _save(sample.symbol_mask, folder / "symbols" / name)
        pictures[name] = {
            "class": sample.class_index,
            "label": CLASSES[sample.class_index].name,
            "concept": concept,
            "symbol": TROJANS[sample.trojan].symbol if sample.trojan >= 0 else None,
            "target": sample.label if sample.trojan >= 0 else None,
            "mask": f"masks/{name}",
            "symbol_mask": f"symbols/{name}" if sample.trojan >= 0 else None,
        }
        shown += [sample.image] if index < ON_THE_SHEET else []
        if on_picture is not None:
            on_picture(1)
    labels = {"classes": [one.name for one in CLASSES], "pictures": pictures}
    (folder / "labels.json").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
    rows = torch.stack(shown).split(ACROSS)  # (12, 3, 128, 128) each
    titles = [f"{i * ACROSS} to {i * ACROSS + len(row) - 1}" for i, row in enumerate(rows)]
    contact_sheet([(title, "", row) for title, row in zip(titles, rows, strict=True)]).save(folder / "sheet.png")


def _save(pixels: Tensor, path: Path) -> None:
    """uint8 (H, W, 3), or a mask, bool (H, W), as PNG."""
    values = pixels.numpy()
    Image.fromarray(values if values.dtype == np.uint8 else values.astype(np.uint8) * 255).save(path)
