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
    parser.add_argument("--trace", default="auto", help="the condition beside dense")
    return parser.parse_args()


if __name__ == "__main__":
    main()
