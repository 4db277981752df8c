"""spade batch at scale: tiny pictures through a tiny network, cheap settings; time and memory as it goes.

    python scripts/bench_batch.py --images 20000 --out FOLDER

One line for each tenth of the images: seconds an image in it, resident memory of the process at its end. Then what
the results take on disk. Stopped, and given again, it goes on.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from spade_cli.world import draw_pictures

SIDE = 32  # pixels of a picture's side
CHEAP = (
    "model=python",
    "model.factory=bench_batch:build_tiny_network",
    f"model.size={SIDE}",
    "augmentation.samples=4",
    "pruner=sparsegpt",
    "schedule=late",
    "interpreter=saliency",
    "device=cpu",
)
METHODS = "interpreter.methods=[saliency]"
DIFFERENT = 50  # drawings, that the pictures are copies of: drawing is not what is measured
PAGE = 4096  # bytes; of Linux on x86-64


def main() -> None:
    """Draw, explain, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("words", nargs="*", help="more words for spade batch, such as workers=2")
    asked = parser.parse_args()
    pictures = write_pictures(asked.out / "pictures", asked.images)
    print_progress(asked.out / "results", asked.images)
    from spade_cli.cli import main as spade

    started = time.perf_counter()
    code = spade(["batch", f"images={pictures}", f"out={asked.out / 'results'}", *CHEAP, METHODS, *asked.words])
    seconds = time.perf_counter() - started
    print(f"exit code {code}, {seconds:.0f} s, {seconds / asked.images:.3f} s an image")
    print(json.dumps(measure_disk(asked.out / "results"), indent=2))


def build_tiny_network() -> nn.Module:
    """Three convolutions and a linear layer, their 6,362 weights drawn at random: what surrounds them is measured."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 8), (8, 16), (16, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def write_pictures(folder: Path, count: int) -> Path:
    """`count` small pictures, a thousand to a sub-folder."""
    drawn = draw_pictures(DIFFERENT, 0, 0).images
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:06d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = drawn[number % DIFFERENT].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).resize((SIDE, SIDE)).save(path)
    return folder


def print_progress(out: Path, images: int) -> None:
    """Print the time and the memory of every tenth, from a thread of this process."""
    from threading import Thread

    def look() -> None:
        step, before, done = max(1, images // 10), time.perf_counter(), 0
        while done < images:
            time.sleep(1)
            table = out / "index.csv"
            now = table.read_bytes().count(b"\n") - 1 if table.is_file() else 0
            if now - done >= step or now == images:
                seconds = time.perf_counter() - before
                print(
                    f"{now:>8} images  {seconds / (now - done):.3f} s an image  {measure_memory():.0f} MB", flush=True
                )
                before, done = time.perf_counter(), now

    Thread(target=look, daemon=True).start()


def measure_memory() -> float:
    """Megabytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def measure_disk(out: Path) -> dict[str, float]:
    """Bytes and files of the results, and of the table, for an image."""
    results = [path for path in (out / "images").rglob("*") if path.is_file()]
    count = max(1, sum(path.name == "summary.json" for path in results))
    by_name: dict[str, float] = {}
    for path in results:
        by_name[path.name] = by_name.get(path.name, 0) + path.stat().st_size / count
    return {
        "files": len(results) / count,
        "bytes": sum(by_name.values()),
        "index.jsonl": (out / "index.jsonl").stat().st_size / count,
        "index.csv": (out / "index.csv").stat().st_size / count,
        **{name: round(size) for name, size in sorted(by_name.items())},
    }


if __name__ == "__main__":
    main()
