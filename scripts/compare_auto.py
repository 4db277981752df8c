"""What `schedule=auto` gains in Trojan AUC over the dense network with two checkouts, on the same pictures.

    python scripts/compare_auto.py OTHER_CHECKOUT --pictures 12

The pictures and the seven quick methods are those of scripts/schedule_rules.py. Both checkouts run `spade eval`, one
thread each, at the same time. A stopped comparison is resumed with the same `--out`. Prints Markdown: the gains in
points, mean over the methods, with the standard error over the pictures, and the paired difference.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from benchmark_page import table

OWN = Path(__file__).parents[1]
SEED = 77  # as in scripts/schedule_rules.py
QUICK = ("saliency", "input_x_gradient", "deeplift", "lrp", "guided_backprop", "guided_gradcam", "integrated_gradients")
METRIC = "trojan_auc"


def main() -> None:
    """Evaluate with both, and compare."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        out = (asked.out or Path(folder)).resolve()
        out.mkdir(parents=True, exist_ok=True)
        started = [
            start_evaluation(checkout, out / name, asked) for name, checkout in (("before", asked.other), ("now", OWN))
        ]
        codes = [process.wait() for process in started]
        if any(codes):
            sys.exit(f"an evaluation failed: see log.txt in the folders of {out}")
        print(compare(read_gains(out / "before"), read_gains(out / "now")))


def start_evaluation(checkout: Path, out: Path, asked: argparse.Namespace) -> "subprocess.Popen[bytes]":
    """`spade eval` of a checkout, on its way."""
    out.mkdir(exist_ok=True)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    words = [f"count={asked.pictures}", "trojan_share=1", f"seed={SEED}", "conditions=[dense,forward]"]
    words += ["metrics=[localisation]", f"interpreter.methods=[{','.join(asked.methods)}]", "device=cpu"]
    with (out / "log.txt").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "spade_cli", "eval", *words, f"out={out / 'evaluation'}", "--quiet"],
            cwd=out,
            env={**os.environ, **threads, "PYTHONPATH": str(checkout.resolve())},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def read_gains(out: Path) -> dict[str, float]:
    """Picture -> the gain of `auto` over dense in points, mean over the methods; a lost picture is not there."""
    gains = {}
    for path in sorted((out / "evaluation" / "records").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        values = {(condition, method): value for condition, method, name, value in record["rows"] if name == METRIC}
        methods = sorted({method for _, method in values})
        pairs = [(values.get(("dense", method)), values.get(("forward", method))) for method in methods]
        whole = [100 * (after - before) for before, after in pairs if before is not None and after is not None]
        if whole and len(whole) == len(pairs):
            gains[record["image"]] = float(np.mean(whole))
    return gains


def compare(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """The table; only pictures that both have count."""
    names = sorted(before.keys() & now.keys())
    first, second = (np.array([gains[name] for name in names]) for gains in (before, now))
    lines = [(name, *describe(values)) for name, values in (("before", first), ("now", second))]
    lines.append(("now - before, paired", *describe(second - first)))
    return f"{len(names)} pictures\n\n" + table(("auto", "gain, points", "worst picture"), lines)


def describe(gains: Sequence[float] | np.ndarray) -> tuple[str, str]:
    """Mean with its standard error, and the least."""
    values = np.asarray(gains)
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{values.mean():+.2f} +- {error:.2f}", f"{values.min():+.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("other", type=Path, help="a checkout of the version before")
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--methods", nargs="*", default=QUICK)
    parser.add_argument("--out", type=Path, help="folder that keeps the evaluations")
    return parser.parse_args()


if __name__ == "__main__":
    main()
