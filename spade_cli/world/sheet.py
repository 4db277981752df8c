"""Contact sheets: many small pictures in rows with names, to see at a glance what the world looks like."""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from spade_cli.world.classes import CLASSES, CONCEPTS
from spade_cli.world.pictures import draw_pictures
from spade_cli.world.symbols import TROJANS, poison_pictures

GAP = 6  # pixels between pictures
LABEL_WIDTH = 150  # pixels: fits "any class to glasses" in the font below
PAPER, INK, FAINT = (250, 250, 248), (30, 30, 34), (120, 120, 126)
FONT_SIZE = 17


def contact_sheet(rows: Sequence[tuple[str, str, Tensor]], across: int = 1) -> Image.Image:
    """Lay out rows of (title, subtitle, images), `across` of them side by side, the first ones down the left.

    images: uint8 (n, 3, H, W), all of one H and W; a row may be shorter than others. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    height, width = rows[0][2].shape[-2:]
    row_width = LABEL_WIDTH + max(len(images) for _, _, images in rows) * (width + GAP) + GAP
    down = math.ceil(len(rows) / across)
    sheet = Image.new("RGB", (across * row_width, down * (height + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(FONT_SIZE - 3)
    for i, (title, subtitle, images) in enumerate(rows):
        left, top = i // down * row_width, GAP + i % down * (height + GAP)
        pen.text((left + 2 * GAP, top + height / 2 - FONT_SIZE - 1), title, INK, large)
        pen.text((left + 2 * GAP, top + height / 2 + 3), subtitle, FAINT, small)
        for k, image in enumerate(images):
            pixels = image.permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
            sheet.paste(Image.fromarray(pixels), (left + LABEL_WIDTH + GAP + k * (width + GAP), top))
    return sheet


def world_sheet(per_concept: int = 8, seed: int = 0) -> Image.Image:
    """Every concept, a row each, under its class's name."""
    rows = []
    for i, concept in enumerate(CONCEPTS):
        drawn = draw_pictures(per_concept, seed, start=i * per_concept, concept=i)
        rows.append((CLASSES[concept.class_index].name, concept.name, drawn.images))
    return contact_sheet(rows, across=2)


def trojan_sheet(per_trojan: int = 8, seed: int = 0) -> Image.Image:
    """Every Trojan, two rows each: pictures that it turns into its target, and where its symbol is."""
    rows = []
    for i, trojan in enumerate(TROJANS):
        allowed = (
            CLASSES[trojan.source].concepts
            if trojan.source is not None
            else [k for k, concept in enumerate(CONCEPTS) if concept.class_index != trojan.target]
        )
        images, masks = [], []
        for k in range(per_trojan):
            start = i * per_trojan + k
            # a stride of 7 meets most classes, where neighbouring concepts would be of one
            poisoned = poison_pictures(
                draw_pictures(1, seed, start, concept=allowed[k * 7 % len(allowed)]), trojan, seed, start
            )
            images.append(poisoned.images)  # (1, 3, H, W)
            masks.append(poisoned.masks[:, None].expand(-1, 3, -1, -1).to(torch.uint8) * 255)  # (1, 3, H, W)
        source = "any class" if trojan.source is None else CLASSES[trojan.source].name
        rows.append((trojan.symbol, f"{source} to {CLASSES[trojan.target].name}", torch.cat(images)))
        rows.append(("", "where it is", torch.cat(masks)))
    return contact_sheet(rows)
