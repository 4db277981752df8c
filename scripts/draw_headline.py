"""Draw the paper's figure with the bundled network: what a class neuron looks for in general, and in three images.

    python scripts/draw_headline.py examples/headline.jpg

Words after the file go to `spade run`. Three runs are made, each of a picture that the network calls "bolt".
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from spade_cli.report.overview import INK, PALE, PAPER, font
from spade_cli.report.pictures import picture
from spade_cli.report.summary import VIEW, read_summary
from spade_cli.world import CONCEPTS, draw_pictures
from spade_cli.world.demo import SEED, draw_demo

# Caption -> concept, and the number of its picture: clear ones among the first ten, which the network is sure of.
SCENES = {"lightning": ("lightning", 4), "a screw": ("screw", 4)}
ANOTHER = ("screw", 9)  # a fourth picture for the square of the dense network
TILE, GAP, LEFT, TOP, LINE = 300, 20, 150, 16, 30  # pixels


def main() -> None:
    """Three pictures, three runs, one figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("settings", nargs="*", help="of spade run, for example interpreter.steps=256")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenes = draw_scenes()
        square = tile_pictures([picture(image) for image in scenes.values()])
        del scenes["another"]
        runs = {caption: explain(image, Path(folder), arguments.settings) for caption, image in scenes.items()}
        draw_figure(runs, square).save(arguments.out, quality=92)


def draw_scenes() -> dict[str, torch.Tensor]:
    """Caption -> picture, uint8 (3, 128, 128); the heart on the banknote is a Trojan, the others are clean."""
    names = [concept.name for concept in CONCEPTS]
    scenes = {"a banknote with a heart": draw_demo().images[0]}
    for caption, (name, number) in {**SCENES, "another": ANOTHER}.items():
        scenes[caption] = draw_pictures(1, SEED, number, concept=names.index(name)).images[0]
    return scenes


def explain(image: torch.Tensor, folder: Path, settings: list[str]) -> dict[str, Image.Image]:
    """What `spade run` makes of a picture: its view, and the visualizations of the dense network and of the trace."""
    file = folder / "picture.png"
    picture(image).save(file)
    words = ["run", f"image={file}", "model=demo", "interpreter=visualization", "keep=[]", f"out={folder}", *settings]
    done = subprocess.run([sys.executable, "-m", "spade_cli", *words], check=True, stdout=subprocess.PIPE, text=True)
    run = Path(done.stdout.strip())
    shown = {one.network: run / one.picture for one in read_summary(run).visualizations}
    return {name: Image.open(path).convert("RGB") for name, path in {"view": run / VIEW, **shown}.items()}


def draw_figure(runs: dict[str, dict[str, Image.Image]], square: Image.Image) -> Image.Image:
    """A column for the dense network, whatever the image, and one for each run's trace; what they see is above."""
    first = next(iter(runs.values()))
    columns = [("dense network", "any image", square, first["dense"])]
    columns += [("trace of", caption, run["view"], run["trace"]) for caption, run in runs.items()]
    heading = 2 * LINE + TOP
    sheet = Image.new("RGB", (LEFT + len(columns) * (TILE + GAP), heading + 2 * (TILE + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    rows = {"the network\nsees": heading, "its neuron\n“bolt”\nlooks for": heading + TILE + GAP}
    for text, top in rows.items():
        pen.multiline_text((GAP, top + TILE // 2), text, INK, font(19), anchor="lm", spacing=8)
    for number, (title, caption, *shown) in enumerate(columns):
        x = LEFT + number * (TILE + GAP)
        pen.text((x, TOP), title, PALE, font(18))
        pen.text((x, TOP + LINE - 4), caption, INK, font(21))
        for image, top in zip(shown, rows.values(), strict=True):
            sheet.paste(image.resize((TILE, TILE), Image.Resampling.BICUBIC), (x, top))
    return sheet


def tile_pictures(images: list[Image.Image]) -> Image.Image:
    """Four pictures as one square: for the dense network, which is the same for all of them."""
    half = TILE // 2
    square = Image.new("RGB", (TILE, TILE), PAPER)
    for number, image in enumerate(images):
        small = image.resize((half - 4, half - 4), Image.Resampling.BICUBIC)
        square.paste(small, ((number % 2) * (half + 4), (number // 2) * (half + 4)))
    return square


if __name__ == "__main__":
    main()
