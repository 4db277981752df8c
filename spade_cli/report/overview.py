"""overview.png: the image, what was said about it, and every explanation of the dense network above the trace's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TILE = 224  # pixels of a picture's side; most networks' own input size
GAP = 16
MARGIN = 84  # left of each row, for its name
CAPTION = 30  # height of a line of text above a picture
ACROSS = 5  # pairs beside one another before the next band starts: fits a laptop's screen
INK, PALE, PAPER = (33, 33, 38), (110, 110, 120), (255, 255, 255)


@dataclass(frozen=True)
class Pair:
    """One explanation of both networks."""

    title: str
    dense: Image.Image | None
    trace: Image.Image | None


def overview(photograph: Image.Image, headline: str, lines: Sequence[str], pairs: Sequence[Pair]) -> Image.Image:
    """One picture of the whole run; pairs run across in bands, dense above trace."""
    across = max(1, min(ACROSS, len(pairs)))
    bands = [pairs[i : i + across] for i in range(0, len(pairs), across)]
    band_height = CAPTION + 2 * (TILE + GAP) + GAP
    header = max(TILE, 52 + 28 * len(lines)) + 3 * GAP
    width = max(MARGIN + across * (TILE + GAP) + GAP, GAP * 3 + TILE + 640)
    sheet = Image.new("RGB", (width, header + band_height * len(bands) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)

    sheet.paste(_fit(photograph), (GAP * 2, GAP * 2))
    left = GAP * 3 + TILE
    draw.text((left, GAP * 2), _clip(headline, 28, width - left - GAP), INK, font(28))
    for i, line in enumerate(lines):
        draw.text((left, GAP * 2 + 48 + 28 * i), _clip(line, 17, width - left - GAP), PALE, font(17))

    for b, band in enumerate(bands):
        top = header + b * band_height
        rows = {"dense": top + CAPTION, "trace": top + CAPTION + TILE + GAP}
        for name, y in rows.items():
            draw.text((GAP, y + TILE // 2), name, INK, font(17), anchor="lm")
        for i, pair in enumerate(band):
            x = MARGIN + i * (TILE + GAP)
            draw.text((x, top), _clip(pair.title, 17, TILE), INK, font(17))
            for name, image in (("dense", pair.dense), ("trace", pair.trace)):
                if image is not None:
                    sheet.paste(_fit(image), (x, rows[name]))
                else:
                    draw.rectangle((x, rows[name], x + TILE - 1, rows[name] + TILE - 1), outline=(220, 220, 225))
                    draw.text((x + TILE // 2, rows[name] + TILE // 2), "skipped", PALE, font(17), anchor="mm")
    return sheet


def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: labels are in many languages."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _fit(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)


def _clip(text: str, size: int, width: int) -> str:
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
