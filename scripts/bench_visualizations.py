"""Seconds a visualization: each visualizer on the same classes of one network, in turn, in one process.

    python scripts/bench_visualizations.py demo
    python scripts/bench_visualizations.py squeezenet1_1 --weights PATH --rounds 3

Set OMP_NUM_THREADS=1 for one thread. The row of times is the fastest round; the pictures are thrown away.
"""

import argparse
import time

import torch

from spade_cli.interpretation import VISUALIZERS, Channel
from spade_cli.models import load_model

CLASSES = 2  # as many as `spade run` draws of one target on two networks


def main() -> None:
    """Print a line for each visualizer that starts from noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("--weights")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    classifier = load_model(asked.network, **({"weights": asked.weights} if asked.weights else {}))
    own = classifier.preprocessing
    seconds: dict[str, list[float]] = {name: [] for name in ("lucent", "spectrum")}
    for turn in range(asked.rounds):
        for name, found in seconds.items():
            started = time.perf_counter()
            for target in range(CLASSES):
                VISUALIZERS[name](
                    [classifier.model], [Channel(None, target)], size=own.size, mean=own.mean, std=own.std, seed=turn
                )
            found.append((time.perf_counter() - started) / CLASSES)
    for name, found in seconds.items():
        print(f"{asked.network} {name}: {min(found):.1f} s a visualization ({torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
