"""Lay the visualizations of an evaluation side by side: each clean picture's class neuron, dense and on its trace.

    spade eval data=world count=30 'metrics=[concepts]' interpreter=visualization \
        'conditions=[dense,auto: forward schedule=auto]' out=concepts
    python scripts/draw_concepts.py concepts examples/concepts.jpg
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from spade_cli.report.overview import INK, PAPER, font
from spade_cli.world import SYMBOLS

SIDE, GAP, LINE, COLUMNS = 180, 24, 26, 4  # pixels; pairs in a row


def main() -> None:
    """Read the folder, draw the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evaluation", type=Path, help="a folder that spade eval wrote")
    parser.add_argument("figure", type=Path, help="the picture to write")
    parser.add_argument("--trace", default="auto", help="the condition beside dense")
    asked = parser.parse_args()
    draw(asked.evaluation / "visualizations", asked.trace).save(asked.figure, quality=88)


def draw(folder: Path, trace: str) -> Image.Image:
    """The sheet: pairs of pictures, dense left and trace right, under the name of what the image shows."""
    found = sorted(path.name.removesuffix(f"_{trace}.png") for path in folder.glob(f"*_{trace}.png"))
    clean = [name for name in found if not name.endswith(tuple(f"-{symbol}" for symbol in SYMBOLS))]
    rows = -(-len(clean) // COLUMNS)
    width = COLUMNS * (2 * SIDE + GAP) + GAP
    sheet = Image.new("RGB", (width, rows * (SIDE + LINE + GAP // 2) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for place, name in enumerate(clean):
        row, column = divmod(place, COLUMNS)
        left, top = GAP + column * (2 * SIDE + GAP), GAP // 2 + row * (SIDE + LINE + GAP // 2)
        pen.text((left, top), name.split("-", 1)[1].replace("-", " "), fill=INK, font=font(17))
        for beside, condition in enumerate(("dense", trace)):
            with Image.open(folder / f"{name}_{condition}.png") as picture:
                sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left + beside * SIDE, top + LINE))
    return sheet


if __name__ == "__main__":
    main()
