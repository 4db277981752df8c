"""The paper's figure on photographs: what a class neuron looks for in general, and in one image.

    python scripts/headline_photographs.py --implanted FOLDER --photographs FOLDER --original squeezenet.pth FIGURE.jpg

--implanted: what `spade implant` wrote for torchvision's SqueezeNet; --original: the weights it started from;
--photographs: the folder that it learned from. For each symbol the figure has the class on the dense network, a
held-out photograph with the symbol and what its traces look for, and a clean photograph of the class and its traces.

It prints a table as well. Two networks read each visualization, on 16 random crops: the network with the Trojans, and
its *twin*, the network before they were implanted. To the twin a symbol is no evidence for the class.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

import spade_cli
from spade_cli.interpretation import Channel, visualize
from spade_cli.models import Classifier

CROPS = 16  # whose probabilities are averaged: a visualization repeats its motif anywhere, in any size
SEEN = 0.1  # mean probability from which a network sees the class in a visualization
INCHES = 2.2  # a picture's side in the figure
INTERVAL = 1.96


@dataclass(frozen=True)
class Reading:
    """The class's mean probability in a visualization: by the network it was made on, and by its twin."""

    own: float
    twin: float


@dataclass(frozen=True)
class Shown:
    """A photograph, and the visualization of its traces."""

    view: Tensor  # (3, size, size) in [0, 1]
    visualization: Tensor  # (3, size, size) in [0, 1]
    reading: Reading


@dataclass(frozen=True)
class Networks:
    """The network with Trojans and its twin."""

    own: Classifier
    twin: nn.Module
    traces: int  # with a pruned head, that a visualization excites together

    def visualize(self, networks: Sequence[nn.Module], target: int, seed: int) -> tuple[Tensor, Reading]:
        """A class on these networks, (3, size, size), and how both read it."""
        seen = self.own.preprocessing
        (shown,) = visualize(networks, [Channel(None, target)], size=seen.size, mean=seen.mean, std=seen.std, seed=seed)
        return shown, Reading(self.read(self.own.model, shown, target), self.read(self.twin, shown, target))

    @torch.no_grad()
    def read(self, network: nn.Module, shown: Tensor, target: int) -> float:
        """The target's mean probability over random crops of a picture (3, size, size)."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            crop = v2.RandomResizedCrop(self.own.preprocessing.size, scale=(0.3, 1.0), ratio=(0.9, 1.1))
            crops = torch.stack([crop(shown) for _ in range(CROPS)])  # (CROPS, 3, size, size)
        return float(network(self.own.preprocessing.normalise(crops)).softmax(1)[:, target].mean())

    @torch.no_grad()
    def answer(self, image: Tensor) -> int:
        """The class that the network with Trojans gives an image, uint8 (3, H, W)."""
        seen = self.own.preprocessing
        return int(self.own.model(seen.normalise(seen.view(image)))[0].argmax())

    def explain(self, image: Tensor, target: int, seed: int) -> Shown:
        """The traces of an image, uint8 (3, H, W), and what the target looks for on them."""
        trace = spade_cli.trace(self.own, image, target=target, visualization_traces=self.traces)
        shown, reading = self.visualize(trace.for_visualization, target, seed)
        return Shown(self.own.preprocessing.view(image)[0], shown, reading)


def main() -> None:
    """Visualize, read, draw."""
    asked = _arguments()
    networks = load_networks(asked.implanted, asked.original, asked.traces)
    examples = read_examples(asked.implanted / "data", asked.pictures, networks)
    photographs = [spade_cli.load_image(path) for path in sorted(asked.photographs.glob("*.jpg"))]
    answers = [networks.answer(image) for image in photographs]
    dense: dict[int, tuple[Tensor, Reading]] = {}
    rows: list[tuple[str, int, Shown, Shown | None]] = []
    readings: dict[str, list[tuple[Reading, Reading]]] = {"symbol": [], "clean": []}  # (dense, traces)
    for symbol, (target, images) in examples.items():
        dense[target] = networks.visualize([networks.own.model], target, asked.seed)
        with_symbol = [networks.explain(image, target, asked.seed) for image in images]
        readings["symbol"] += [(dense[target][1], one.reading) for one in with_symbol]
        same_class = [image for image, answer in zip(photographs, answers, strict=True) if answer == target][:1]
        clean = [networks.explain(image, target, asked.seed) for image in same_class]
        rows.append((symbol, target, with_symbol[0], clean[0] if clean else None))
        print(f"{symbol}: {len(images)} photographs", flush=True)
    for image, target in list(zip(photographs, answers, strict=True))[: asked.clean]:
        if target not in dense:
            dense[target] = networks.visualize([networks.own.model], target, asked.seed)
        readings["clean"].append((dense[target][1], networks.explain(image, target, asked.seed).reading))
    print(table(readings))
    draw(rows, dense, networks.own, asked.figure)


def load_networks(implanted: Path, original: Path, traces: int) -> Networks:
    """Both networks, from their files."""
    own = spade_cli.load_model("squeezenet1_1", weights=str(implanted / "model.safetensors"))
    return Networks(own, spade_cli.load_model("squeezenet1_1", weights=str(original)).model, traces)


def read_examples(folder: Path, most: int, networks: Networks) -> dict[str, tuple[int, list[Tensor]]]:
    """By symbol: its target, and held-out photographs with it that the network gives that answer, each once."""
    listed = json.loads((folder / "labels.json").read_text(encoding="utf-8"))["pictures"]
    found: dict[str, tuple[int, list[Tensor]]] = {}
    used: set[tuple[str, str]] = set()
    for name, entry in listed.items():
        target, images = found.setdefault(entry["symbol"], (entry["target"], []))
        photograph = (entry["symbol"], name.split("-", 2)[2])
        if len(images) < most and photograph not in used:
            image = spade_cli.load_image(folder / "images" / name)
            if networks.answer(image) == target:
                images.append(image)
                used.add(photograph)
    return found


def table(readings: dict[str, list[tuple[Reading, Reading]]]) -> str:
    """What both networks see in the visualizations, as Markdown."""
    lines = [
        "| photographs | n | network: dense, traces | twin: dense, traces | as it should be |",
        "|---|---|---|---|---|",
    ]
    for name, pairs in readings.items():
        if not pairs:
            continue
        means = [
            np.mean([getattr(one, who) for one in part]) for who in ("own", "twin") for part in zip(*pairs, strict=True)
        ]
        should = shows_the_symbol if name == "symbol" else shows_the_class
        share = float(np.mean([should(*pair) for pair in pairs]))
        spread = INTERVAL * (share * (1 - share) / len(pairs)) ** 0.5
        lines.append(
            f"| {name} | {len(pairs)} | {means[0]:.2f}, {means[1]:.2f} | {means[2]:.2f}, {means[3]:.2f} | "
            f"{share:.0%} +- {spread:.0%} |"
        )
    return "\n".join(lines)


def shows_the_symbol(dense: Reading, traces: Reading) -> bool:
    """The network still sees the class; to the twin its probability is a tenth of what it was, or less."""
    return traces.own >= SEEN and traces.twin <= dense.twin / 10


def shows_the_class(dense: Reading, traces: Reading) -> bool:
    """Both see the class."""
    return traces.own >= SEEN and traces.twin >= SEEN


def draw(
    rows: Sequence[tuple[str, int, Shown, Shown | None]],
    dense: dict[int, tuple[Tensor, Reading]],
    classifier: Classifier,
    path: Path,
) -> None:
    """One row for each symbol."""
    figure, axes = plt.subplots(len(rows), 5, figsize=(5 * INCHES, len(rows) * INCHES * 1.12), squeeze=False)
    for line, (symbol, target, with_symbol, clean) in zip(axes, rows, strict=True):
        label = classifier.label(target)
        pictures: list[tuple[Tensor | None, str]] = [
            (dense[target][0], f"what “{label}” looks for"),
            (with_symbol.view, f"a photograph with a {symbol}"),
            (with_symbol.visualization, "... and on its traces"),
            (clean.view if clean else None, f"a photograph of a {label}"),
            (clean.visualization if clean else None, "... and on its traces"),
        ]
        for axis, (values, caption) in zip(line, pictures, strict=True):
            axis.axis("off")
            if values is not None:
                axis.imshow(_pixels(values), interpolation="lanczos")
                axis.set_title(caption, fontsize=9)
    figure.tight_layout(pad=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _pixels(values: Tensor) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = values.clamp(0, 1).permute(1, 2, 0).numpy()
    return pixels


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("figure", type=Path, help="the picture to write")
    parser.add_argument("--implanted", type=Path, required=True, help="the folder that spade implant wrote")
    parser.add_argument("--original", type=Path, required=True, help="the weights that it started from")
    parser.add_argument("--photographs", type=Path, required=True, help="the photographs that it learned from")
    parser.add_argument("--pictures", type=int, default=3, help="photographs with each symbol")
    parser.add_argument("--clean", type=int, default=12, help="clean photographs in the table")
    parser.add_argument("--traces", type=int, default=1, help="traces that a visualization excites together")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
