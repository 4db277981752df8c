"""overview.png: the image, what both networks say about it, and each explanation: dense network above, trace below."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TILE = 224  # pixels of a picture's longer side; most networks' own input size
GAP = 16
MARGIN = 84  # left of each row, for its name
CAPTION = 46  # height of a title of one line and its note above a picture
ACROSS = 5  # pairs beside one another at most: fits a laptop's screen
TITLE, TEXT, NOTE = 28, 17, 13  # font sizes in pixels
LINE, TITLE_LINE, HEADLINE = 27, 23, 48  # height of a line of text, of a picture's title, and of the headline
INK, PALE, WARNING, PAPER = (33, 33, 38), (110, 110, 120), (170, 80, 0), (255, 255, 255)


@dataclass(frozen=True)
class Pair:
    """One explanation of both networks."""

    title: str
    dense: Image.Image | None
    trace: Image.Image | None
    note: str = ""


def overview(
    view: Image.Image, headline: str, lines: Sequence[str], flags: Sequence[str], pairs: Sequence[Pair]
) -> Image.Image:
    """One picture of the whole run; pairs run across in bands of about one length, dense above trace."""
    bands = ceil(len(pairs) / ACROSS)
    across = max(3, ceil(len(pairs) / bands)) if bands else 3  # three columns leave room for the text
    seen = shape_tile(view.size, TILE)
    shown = [image for pair in pairs for image in (pair.dense, pair.trace) if image is not None]
    tile = shape_tile((*shown, view)[0].size, TILE)
    left, width = GAP * 3 + seen[0], MARGIN + across * (TILE + GAP) + GAP
    headlines = _wrap_lines([headline], width - left - GAP, TITLE)
    text = [(line, PALE) for line in _wrap_lines(lines, width - left - GAP)]
    text += [(line, WARNING) for line in _wrap_lines([f"flagged: {flag}" for flag in flags], width - left - GAP)]
    below = GAP * 2 + HEADLINE * len(headlines)
    header = max(seen[1] + 4 * GAP, below + GAP + LINE * len(text))
    caption = CAPTION + TITLE_LINE * (max((len(_wrap_title(pair)) for pair in pairs), default=1) - 1)
    band_height = caption + 2 * (tile[1] + GAP) + GAP
    sheet = Image.new("RGB", (width, header + band_height * bands + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(_fit_tile(view, seen), (GAP * 2, GAP * 2))
    for i, line in enumerate(headlines):
        draw.text((left, GAP * 2 + HEADLINE * i), line, INK, font(TITLE))
    for i, (line, colour) in enumerate(text):
        draw.text((left, below + LINE * i), line, colour, font(TEXT))
    for b in range(bands):
        _draw_band(sheet, draw, pairs[b * across : (b + 1) * across], header + b * band_height + caption, tile)
    return sheet


def _draw_band(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, pairs: Sequence[Pair], top: int, tile: tuple[int, int]
) -> None:
    """`top`: of the pictures; their titles and notes stand above it."""
    width, height = tile
    rows = {"dense": top, "trace": top + height + GAP}
    for name, y in rows.items():
        draw.text((GAP, y + height // 2), name, INK, font(TEXT), anchor="lm")
    for i, pair in enumerate(pairs):
        x = MARGIN + i * (TILE + GAP)
        for up, line in enumerate(reversed(_wrap_title(pair))):
            draw.text((x, top - CAPTION - TITLE_LINE * up), line, INK, font(TEXT))
        draw.text((x, top - CAPTION + TITLE_LINE), clip_text(pair.note, NOTE, TILE), PALE, font(NOTE))
        for name, image in (("dense", pair.dense), ("trace", pair.trace)):
            if image is not None:
                sheet.paste(_fit_tile(image, tile), (x, rows[name]))
            else:
                draw.rectangle((x, rows[name], x + width - 1, rows[name] + height - 1), outline=(220, 220, 225))
                draw.text((x + width // 2, rows[name] + height // 2), "skipped", PALE, font(TEXT), anchor="mm")


def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: labels are in many languages."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def shape_tile(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height of a picture of this size (width, height) whose longer side becomes `longest`."""
    width, height = (max(1, round(longest * side / max(size))) for side in size)
    return width, height


def _fit_tile(image: Image.Image, tile: tuple[int, int]) -> Image.Image:
    """Bilinear: a kernel that is nowhere negative cannot draw rings around a bright spot of a map."""
    return image.convert("RGB").resize(tile, Image.Resampling.BILINEAR)


def _wrap_title(pair: Pair) -> list[str]:
    return _wrap_lines([pair.title], TILE)


def _wrap_lines(lines: Sequence[str], width: int, size: int = TEXT) -> list[str]:
    """Lines broken between words where they are too long; a word that is too long alone is cut."""
    face, result = font(size), []
    for line in lines:
        current = ""
        for word in line.split():
            if current and face.getlength(f"{current} {word}") > width:
                result.append(current)
                current = word
            else:
                current = f"{current} {word}".strip()
        result.append(clip_text(current, size, width))
    return result


def clip_text(text: str, size: int, width: int) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
