"""How map quality and fidelity move with sparsity, and where schedule=auto stops: a picture of the bundled world.

    python scripts/sensitivity.py examples/sensitivity.png

For every share and depth, over held-out Trojaned pictures: the mean gain in Trojan AUC of the gradient methods over the
dense network, and the share of the target's probability that is kept. Rings: what auto chose for each picture.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from spade_cli.evaluation import data as datasets
from spade_cli.evaluation.figures import COLOURS, DPI
from spade_cli.evaluation.measures.aggregation import AGGREGATIONS, aggregate
from spade_cli.evaluation.measures.localisation import roc_auc
from spade_cli.images import augment
from spade_cli.interpretation import METHODS, explainable
from spade_cli.pruning import Draft, Fidelity, Search, find_layers, schedule
from spade_cli.pruning.solvers.forward import forward
from spade_cli.run.make_trace import calibrate_image, free_blocks, make_judge, read_answer
from spade_cli.run.trace_settings import TraceSettings
from spade_cli.world import demo_classifier

SEED = 77  # none of the pictures that docs/results.md reports on
SHARES = (0.8, 0.9, 0.95, 0.98)
QUICK = ("saliency", "input_x_gradient", "deeplift", "integrated_gradients")
Curves = dict[float, dict[int, list[tuple[float, float]]]]  # share -> depth -> (gain in points, probability kept)


@torch.no_grad()
def main() -> None:
    """Measure, draw."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    curves: Curves = {share: defaultdict(list) for share in SHARES}
    chosen = []
    data = datasets.world(arguments.pictures, 1.0, SEED)
    for index in range(arguments.pictures):
        picked = measure(data.load(index), curves)
        chosen += [picked] if picked else []
        print(f"\r{index + 1} of {arguments.pictures}", end="", flush=True, file=sys.stderr)
    draw(curves, chosen, arguments.out)
    print(f"\n{arguments.out}: {len(chosen)} pictures", file=sys.stderr)


def measure(example: datasets.Example, curves: Curves) -> tuple[float, int, float, float] | None:
    """Add one picture to the curves; returns share, depth, gain and probability kept of what auto chose."""
    classifier = demo_classifier()
    layers = find_layers(classifier.model)
    answer = read_answer(classifier, example.image)
    if answer.target != example.target or example.mask is None:
        return None
    mask = datasets.network_mask(example.mask, classifier)
    auto = schedule.auto(layers, None)
    samples = augment.paper(example.image, 256, classifier.preprocessing, 0)
    image = calibrate_image(classifier, layers, auto.candidates, samples, answer, TraceSettings())
    judge = make_judge(image)
    draft = Draft(classifier.model, layers, image.statistics, forward, 0.01)
    body = free_blocks(image, schedule.Shares({}, auto), auto)

    def auc(network: torch.nn.Module) -> float:
        with torch.enable_grad():
            safe = explainable(network, answer.x)
            found = [aggregate(METHODS[name](safe, answer.x, answer.target).map, AGGREGATIONS[name]) for name in QUICK]
        return 100 * float(roc_auc(torch.stack(found), mask.expand(len(QUICK), -1, -1)).mean())

    dense = auc(classifier.model)
    for share in SHARES:
        for depth in range(len(body) + 1):
            network = draft.set({name: share for block in list(body.values())[:depth] for name in block})
            curves[share][depth].append((auc(network) - dense, measure_kept(judge(network))))
    best = Search(draft, body, auto, judge).run()
    if best is None:
        return None
    return next(iter(best.shares.values())), len(best.shares), auc(draft.model) - dense, measure_kept(best.fidelity)


def measure_kept(found: Fidelity) -> float:
    """The share of the target's probability that is left."""
    return found.pruned / found.dense


def draw(curves: Curves, chosen: list[tuple[float, int, float, float]], out: Path) -> None:
    """Two panels over depth, a line a share."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4), dpi=DPI, layout="constrained")
    names = ("gain in Trojan AUC, points", "target's probability kept")
    spread = np.random.default_rng(0).uniform(-0.22, 0.22, len(chosen))  # so that equal choices can be told apart
    for panel, (axes, name) in enumerate(zip(figure.subplots(1, 2), names, strict=True)):
        for share, colour in zip(SHARES, COLOURS, strict=False):
            depths = sorted(curves[share])
            means = [np.mean([one[panel] for one in curves[share][depth]]) for depth in depths]
            axes.plot(depths, means, color=colour, marker=".", label=f"all at {share:g}")
        axes.scatter(
            [one[1] + jitter for one, jitter in zip(chosen, spread, strict=True)],
            [one[2 + panel] for one in chosen],
            facecolors="none",
            edgecolors="#333333",
            s=34,
            label="chosen by auto",
        )
        axes.set(xlabel="blocks pruned, from the output back", ylabel=name)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].axhline(0, color="#777777", linewidth=0.8)
    figure.axes[1].axhline(0.9, color="#777777", linewidth=0.8, linestyle="--")
    figure.axes[0].legend(frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
