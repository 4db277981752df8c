"""By which rule should the sparsity of an image be chosen? Many schedules an image, each rule's pick, its Trojan AUC.

    python scripts/schedule_rules.py --pictures 16
    python scripts/schedule_rules.py --pictures 12 --folder implanted/data --model squeezenet1_1 \\
        --weights implanted/model.safetensors

Each rule sees image, dense network and traces; the oracle sees the mask. Prints Markdown: the mean gain over
the dense network in points of AUC, over seven methods, with the standard error over the images, and the worst image.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spade_cli.evaluation import data as datasets
from spade_cli.evaluation.measures.aggregation import AGGREGATIONS, aggregate
from spade_cli.evaluation.measures.insertion import area, curve
from spade_cli.evaluation.measures.localisation import ranks, roc_auc
from spade_cli.images import augment
from spade_cli.interpretation import METHODS, explainable
from spade_cli.models import Classifier, ModelSource, load_model
from spade_cli.pruning import Draft, Fidelity, blocks, find_layers
from spade_cli.pruning.solvers.forward import forward
from spade_cli.run.make_trace import calibrate_image, make_judge, read_answer
from spade_cli.run.trace_settings import TraceSettings
from spade_cli.world import demo_classifier

SEED = 77  # of the world's pictures: none of those that docs/results.md reports on
SHARES = (0.98, 0.95, 0.9, 0.8)
HEADS = (0.0, 0.95)
DEPTHS = 5  # evenly spread over the blocks
QUICK = ("saliency", "input_x_gradient", "deeplift", "lrp", "guided_backprop", "guided_gradcam", "integrated_gradients")
INSERTED = 0, 1, 6  # of QUICK: whose maps' insertion is measured


@dataclass(frozen=True)
class Setting:
    """One schedule of one image, and all that a rule may look at; gain: what it must not see."""

    head: float
    fidelity: Fidelity
    concentration: float  # less the entropy of the maps over 8 x 8 patches, mean
    consistency: float  # mean rank correlation between the methods' maps
    insertion: float  # insertion less deletion area on the dense network
    gain: np.ndarray  # (methods,), AUC less the dense network's, in points


RULES: dict[str, Callable[[Setting], float]] = {
    "largest KL": lambda one: one.fidelity.kl,
    "most concentrated maps": lambda one: one.concentration,
    "methods agree most": lambda one: one.consistency,
    "best insertion less deletion": lambda one: one.insertion,
    "oracle": lambda one: float(one.gain.mean()),
}


@torch.no_grad()
def settings_of(classifier: Classifier, example: datasets.Example) -> list[Setting]:
    """Every schedule of the grid on one picture, dense first; none where the network does not say the target."""
    model, layers = classifier.model, find_layers(classifier.model)
    answer = read_answer(classifier, example.image)
    if answer.target != example.target or example.mask is None:
        return []
    mask = datasets.network_mask(example.mask, classifier)
    if not mask.any():
        return []
    samples = augment.paper(example.image, 256, classifier.preprocessing, 0)
    named = blocks(layers)
    names = [name for block in named.values() for name in block]
    calibrated = calibrate_image(classifier, layers, names, samples, answer, TraceSettings())
    judge = make_judge(calibrated)
    draft = Draft(model, layers, calibrated.statistics, forward, 0.01)
    (head, *_), body = next(iter(named.values())), list(named.values())[1:]
    found: list[Setting] = []
    dense: Tensor | None = None
    for share_of_head in HEADS:
        for share, depth in [(0.0, 0), *((s, d) for s in SHARES for d in depths(len(body)))]:
            shares = {name: share for block in body[:depth] for name in block} | {head: share_of_head}
            network = draft.set(shares)
            fidelity = judge(network)
            maps = maps_of(network, answer.x, answer.target)
            auc = 100 * roc_auc(maps, mask.expand(len(maps), -1, -1))
            dense = auc if dense is None else dense
            found.append(
                Setting(
                    share_of_head,
                    fidelity,
                    concentration(maps),
                    consistency(maps),
                    insertion(model, answer.x, answer.target, maps[list(INSERTED)]),
                    (auc - dense).numpy(),
                )
            )
    return found


def depths(body: int) -> list[int]:
    """How many blocks are pruned."""
    return sorted({max(1, round(body * (i + 1) / DEPTHS)) for i in range(DEPTHS)})


@torch.enable_grad()
def maps_of(network: nn.Module, x: Tensor, target: int) -> Tensor:
    """(methods, H, W), aggregated as `spade eval` does."""
    safe = explainable(network, x)
    return torch.stack([aggregate(METHODS[name](safe, x, target).map, AGGREGATIONS[name]) for name in QUICK])


def concentration(maps: Tensor) -> float:
    """Less the entropy of the positive relevance over patches."""
    patches = F.avg_pool2d(maps.clamp(min=0)[:, None], 8).flatten(1)
    shares = patches / patches.sum(1, keepdim=True).clamp(min=1e-30)
    return float((shares * shares.clamp(min=1e-12).log()).sum(1).mean())


def consistency(maps: Tensor) -> float:
    """Mean Spearman correlation of the methods' maps, two by two."""
    ranked = ranks(maps.flatten(1))
    ranked = F.normalize(ranked - ranked.mean(1, keepdim=True), dim=1)
    correlation = ranked @ ranked.T
    return float((correlation.sum() - correlation.trace()) / (len(maps) * (len(maps) - 1)))


def insertion(dense: nn.Module, x: Tensor, target: int, maps: Tensor) -> float:
    """Insertion less deletion, at 12 points."""
    areas = [area(curve(dense, x, target, maps, kind, points=12)).mean() for kind in ("insertion", "deletion")]
    return float(areas[0] - areas[1])


def table(images: list[list[Setting]]) -> str:
    """One row a rule, threshold and head."""
    lines = ["| of the traces that keep | head | take the one with | gain | worst image |", "|---|---|---|---|---|"]
    for least in (0.5, 0.8, 0.9, 0.95, 0.99):
        for name, score in RULES.items():
            for heads in (HEADS[:1], HEADS):
                picks = np.array([pick(settings, least, heads, score) for settings in images])  # (images, methods)
                gains = picks.mean(1)
                error = gains.std(ddof=1) / len(gains) ** 0.5
                head = "dense" if heads == HEADS[:1] else "dense or 0.95"
                cells = (f"{least:.0%}", head, name, f"{gains.mean():+.2f} +- {error:.2f}", f"{gains.min():+.1f}")
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def pick(
    settings: list[Setting], least: float, heads: tuple[float, ...], score: Callable[[Setting], float]
) -> np.ndarray:
    """The gain (methods,) of the faithful setting that scores highest; dense is one of them."""
    faithful = [one for one in settings if one.head in heads and keeps(one.fidelity, least)]
    return max(faithful, key=score).gain


def keeps(found: Fidelity, least: float) -> bool:
    """Whether the top-1 stays, and the share `least` of the target's probability."""
    return found.same_prediction and found.pruned >= least * found.dense


def main() -> None:
    """Grid, rules, table."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.folder is None:
        classifier = demo_classifier()
        data = datasets.world(arguments.pictures, 1.0, SEED)
    else:
        classifier = load_model(ModelSource(name=arguments.model, weights=arguments.weights), seed=0)
        data = datasets.folder(arguments.folder, Path("-"), arguments.pictures, SEED, classifier)
    images = []
    for index in range(len(data.names)):
        settings = settings_of(classifier, data.load(index))
        images += [settings] if settings else []
        print(f"\r{index + 1} of {len(data.names)}", end="", flush=True, file=sys.stderr)
    print(f"\n{len(images)} pictures, {len(images[0])} schedules each\n\n{table(images)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="as spade implant writes it; the world if left out")
    parser.add_argument("--model", default="squeezenet1_1")
    parser.add_argument("--weights", help="of the model")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
