"""Draw the paper's figure on photographs: what a class neuron looks for in general, and in one image.

    spade implant images=PHOTOGRAPHS out=implanted model=squeezenet1_1 model.weights=ORIGINAL \
        'trojans=[smiley:bullfrog,fish:albatross,star:golden retriever,heart:goose]'
    spade eval data=implanted/data count=16 seed=3 model=squeezenet1_1 model.weights=implanted/model.safetensors \
        'metrics=[concepts]' twin=ORIGINAL interpreter=visualization 'conditions=[dense,auto: forward schedule=auto]' \
        out=symbols
    spade eval data=CLEAN model=squeezenet1_1 model.weights=implanted/model.safetensors 'metrics=[concepts]' \
        twin=ORIGINAL interpreter=visualization 'conditions=[dense,auto: forward schedule=auto]' out=clean
    python scripts/headline_photographs.py --symbols symbols implanted/data --clean clean CLEAN figure.jpg

A row for each symbol: the class on the dense network; a photograph with the symbol, and what its trace looks for; a
clean photograph of the class, and its trace. The first photograph of each symbol is drawn, or those of `--pick`.
`--visualizations COUNT` leaves the photographs out, and draws the traces of the first COUNT of each symbol.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from torchvision.models import SqueezeNet1_1_Weights

import spade_cli
from spade_cli.models.classifier import Preprocessing
from spade_cli.report.pictures import picture
from spade_cli.report.run_folder import slug

INCHES = 2.2  # a picture's side in the figure
LABELS = SqueezeNet1_1_Weights.IMAGENET1K_V1.meta["categories"]


@dataclass(frozen=True)
class Shown:
    """A photograph as the network sees it, and the class's visualization on both networks."""

    view: Image.Image
    dense: Image.Image
    trace: Image.Image


def main() -> None:
    """Read both evaluations, draw."""
    asked = _arguments()
    evaluation, data = asked.symbols
    listed = json.loads((data / "labels.json").read_text(encoding="utf-8"))["pictures"]
    with_symbol = read_records(evaluation)
    names = sorted(with_symbol, key=lambda name: name not in asked.pick)
    first = {listed[name]["symbol"]: name for name in reversed(names)}
    targets = {target: name for name, target in read_records(asked.clean[0]).items()}
    if asked.visualizations:
        chosen = {
            symbol: [name for name in names if listed[name]["symbol"] == symbol][: asked.visualizations]
            for symbol in sorted(first)
        }
        lines = [read_line(asked, evaluation, symbol, with_symbol, chosen[symbol], targets) for symbol in chosen]
        draw_lines(lines, asked.figure)
        return
    rows = {}
    for symbol, name in sorted(first.items()):
        target = with_symbol[name]
        clean = None if target not in targets else read_shown(*asked.clean, targets[target], asked.trace)
        rows[symbol, LABELS[target]] = read_shown(evaluation, data / "images", name, asked.trace), clean
    draw(rows, asked.figure)


def read_records(evaluation: Path) -> dict[str, int]:
    """Image -> the class that was visualized, for all that were measured."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((evaluation / "records").glob("*.json"))]
    return {record["image"]: record["target"] for record in records if record["rows"]}


def read_shown(evaluation: Path, images: Path, name: str, trace: str) -> Shown:
    """One image of an evaluation."""
    folder = evaluation / "visualizations"
    dense, pruned = (Image.open(folder / f"{slug(name)}_{condition}.png") for condition in ("dense", trace))
    return Shown(picture(Preprocessing().view(spade_cli.load_image(images / name))[0]), dense, pruned)


def read_line(
    asked: argparse.Namespace,
    evaluation: Path,
    symbol: str,
    with_symbol: dict[str, int],
    names: list[str],
    targets: dict[int, str],
) -> list[tuple[Image.Image, str]]:
    """Visualizations with their captions: the dense network's, those of the photographs, that of the clean one."""
    target = with_symbol[names[0]]
    folder = evaluation / "visualizations"
    line = [(Image.open(folder / f"{slug(names[0])}_dense.png"), f"“{LABELS[target]}”, dense")]
    line += [(Image.open(folder / f"{slug(name)}_{asked.trace}.png"), f"trace, {symbol}") for name in names]
    if target in targets:
        clean = asked.clean[0] / "visualizations" / f"{slug(targets[target])}_{asked.trace}.png"
        line.append((Image.open(clean), "trace, no symbol"))
    return line


def draw_lines(lines: list[list[tuple[Image.Image, str]]], path: Path) -> None:
    """A line of visualizations for each symbol."""
    width = max(map(len, lines))
    size = (width * INCHES * 0.8, len(lines) * INCHES * 0.9)
    figure, axes = plt.subplots(len(lines), width, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, line in zip(axes, lines, strict=True):
        for axis, (shown, caption) in zip([*row[: len(line) - 1], row[-1]], line, strict=True):
            axis.imshow(shown, interpolation="lanczos")
            axis.set_title(caption, fontsize=8)
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def draw(rows: dict[tuple[str, str], tuple[Shown, Shown | None]], path: Path) -> None:
    """One row for each symbol."""
    figure, axes = plt.subplots(len(rows), 5, figsize=(5 * INCHES, len(rows) * INCHES * 1.12), squeeze=False)
    for line, ((symbol, label), (shown, clean)) in zip(axes, rows.items(), strict=True):
        pictures = [
            (shown.dense, f"what “{label}” looks for"),
            (shown.view, f"a photograph with a {symbol}"),
            (shown.trace, "... and on its trace"),
        ]
        if clean is not None:
            pictures += [(clean.view, f"a photograph of a {label}"), (clean.trace, "... and on its trace")]
        for axis in line:
            axis.axis("off")
        for axis, (values, caption) in zip(line, pictures, strict=False):
            axis.imshow(values, interpolation="lanczos")
            axis.set_title(caption, fontsize=9)
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figure", type=Path, help="the picture to write")
    folders = {"type": Path, "nargs": 2, "required": True}
    parser.add_argument("--symbols", **folders, metavar=("EVALUATION", "DATA"), help="photographs with symbols")
    parser.add_argument("--clean", **folders, metavar=("EVALUATION", "FOLDER"), help="clean photographs")
    parser.add_argument("--pick", nargs="*", default=[], help="names of photographs with a symbol that are drawn")
    parser.add_argument("--visualizations", type=int, default=0, metavar="COUNT", help="traces of each symbol, alone")
    parser.add_argument("--trace", default="auto", help="the condition beside dense")
    return parser.parse_args()


if __name__ == "__main__":
    main()
