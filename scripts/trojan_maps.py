"""Do the maps of a trace lie more on a Trojan's symbol than those of the dense network? Measured on held-out pictures.

    python scripts/trojan_maps.py

Prints a Markdown table: mean pixelwise ROC AUC of each method's map (absolute values, summed over the channels) against
the symbol's mask, for the bundled network and for its traces.
"""

import argparse
import json
import sys

import numpy as np
import torch
from torch import Tensor

import spade_cli
from spade_cli.interpretation import METHODS, PAPER_METHODS, explainable
from spade_cli.world import CLASSES, TROJANS, Trojan, demo_classifier, draw_pictures, implant_symbol

LAYERS = {"fc": 0.5, "layer4.*": 0.95}  # chosen on other pictures, of the shares that left the target at 0.9
SEED = 3_000_000  # of pictures that nothing was trained or chosen on


def main() -> None:
    """Draw, prune, explain, compare."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    classifier = demo_classifier()
    methods = arguments.methods or list(PAPER_METHODS)
    aucs: dict[str, list[list[float]]] = {"dense": [], "trace": []}  # network -> pictures x methods
    kept, probabilities = [], []
    for i in range(arguments.pictures):
        trojan = TROJANS[i % len(TROJANS)]
        image, mask = draw_trojaned(trojan, arguments.seed, i)
        trace = spade_cli.trace(
            classifier,
            image,
            pruner="forward",
            schedule="none",
            layers=arguments.layers,
            samples=arguments.samples,
        )
        x = classifier.preprocessing.normalise(classifier.preprocessing.view(image))  # (1, 3, 128, 128)
        with torch.no_grad():
            pair = [network(x).softmax(1)[0] for network in (classifier.model, trace.model)]
        kept.append([int(answer.argmax()) == trojan.target for answer in pair])
        probabilities.append([answer[trojan.target].item() for answer in pair])
        for name, network in (("dense", classifier.model), ("trace", trace.model)):
            safe = explainable(network, x)
            aucs[name].append([auc(METHODS[method](safe, x, trojan.target).map, mask) for method in methods])
        print(f"\r{i + 1} of {arguments.pictures}", end="", flush=True, file=sys.stderr)
    print("\n" + table(methods, {name: 100 * np.array(rows) for name, rows in aucs.items()}))
    (dense, right), (before, after) = 100 * np.mean(kept, 0), 100 * np.mean(probabilities, 0)
    print(f"Answered with the target: dense {dense:.0f} %, trace {right:.0f} % of {arguments.pictures} pictures;")
    print(f"the target's mean probability: {before:.1f} %, {after:.1f} %.")


def draw_trojaned(trojan: Trojan, seed: int, number: int) -> tuple[Tensor, Tensor]:
    """A picture that the Trojan applies to, uint8 (3, 128, 128), with the symbol; and the symbol's mask (128, 128)."""
    rng = np.random.default_rng((seed, number))
    sources = [trojan.source] if trojan.source is not None else [*range(len(CLASSES))]
    concepts = [concept for source in sources if source != trojan.target for concept in CLASSES[source].concepts]
    pictures = draw_pictures(1, seed, number, concept=int(rng.choice(concepts)))
    images, masks = implant_symbol(pictures.images, trojan.symbol, seed, number)
    return images[0], masks[0]


def auc(attribution: Tensor, mask: Tensor) -> float:
    """The chance that a pixel of the symbol is rated above one beside it; attribution (3, H, W), mask (H, W)."""
    ratings, inside = attribution.abs().sum(0).flatten(), mask.flatten()
    _, place, count = ratings.unique(return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - (count - 1) / 2)[place]  # equal ratings share their mean rank
    positives, negatives = int(inside.sum()), int((~inside).sum())
    return ((rank[inside].double().sum() - positives * (positives + 1) / 2) / (positives * negatives)).item()


def table(methods: list[str], aucs: dict[str, np.ndarray]) -> str:
    """Means over the pictures, in percent, with the standard error of the difference; aucs (pictures, methods)."""
    dense, trace = aucs["dense"], aucs["trace"]
    means = ("**mean**", dense.mean(1), trace.mean(1))
    rows = [*zip(methods, dense.T, trace.T, strict=True), means]
    lines = ["| method | dense | trace | difference |", "|---|---|---|---|"]
    for method, before, after in rows:
        gain = after - before
        error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else float("nan")
        name = method.replace("_", " ")
        lines.append(f"| {name} | {before.mean():.1f} | {after.mean():.1f} | {gain.mean():+.1f} +- {error:.1f} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40, help="of the four Trojans in turn")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--samples", type=int, default=256, help="augmented copies the statistics are measured on")
    parser.add_argument("--layers", type=json.loads, default=LAYERS, help="shares as JSON")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), help="the paper's ten if left out")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
