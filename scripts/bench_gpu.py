"""Everything on one GPU, in a quarter of an hour: whole commands, the tests, and each step beside the CPU.

    python scripts/bench_gpu.py --out FOLDER --minutes 13      # on the machine with the GPU
    python scripts/bench_gpu.py --write FOLDER/bench_gpu.json  # puts the result into docs/benchmarks.md
    python scripts/bench_gpu.py --out FOLDER --device cpu --quick   # a try of this script

Each part is a process with a limit of its own, and bench_gpu.json and bench_gpu.md are written anew after each: a stop
loses nothing. What fails is written down, and the next part follows.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_commands import LIMIT, OWN, run_command, write_patches
from benchmark_page import machine, table, write_section

HERE = Path(__file__).parent
# Seconds of a part at most; together more than there are, since most end sooner.
TESTS, COMPARISON = 240.0, {"statistics": 60.0, "solvers": 100.0, "maps": 80.0, "visualizations": 60.0, "search": 150.0}
# Those that run most on the device; the others follow.
TEST_FIRST = (
    *("tests/test_device.py", "tests/test_run.py", "tests/batch/test_batch.py", "tests/evaluation/test_evaluate.py"),
    *("tests/pruning", "tests/interpretation", "tests/tuning", "tests/test_doctor.py", "tests/test_implant.py"),
)
SMALL = ("augmentation.samples=4", "interpreter.methods=[saliency]")


def main() -> None:
    """Run the parts, or write the page."""
    asked = _arguments()
    if asked.write:
        found = json.loads(asked.write.read_text(encoding="utf-8"))
        return write_section("gpu", "python scripts/bench_gpu.py", page(found))
    asked.out = asked.out.resolve()
    asked.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(60 * asked.minutes)
    found: dict[str, Any] = {
        "device": asked.device,
        "machine": describe(asked.device),
        "commands": [],
        "comparisons": [],
    }
    image = write_patches(asked.out / "patches.png")
    for name, words, limit in commands(image, asked):
        one = run_command([*words, f"device={asked.device}"], OWN, asked.out / "cache", clock.least(limit))
        found["commands"].append({"name": name, **asdict(one)})
        save(found, asked.out)
    found["tests"] = run_tests(asked, clock.least(TESTS))
    save(found, asked.out)
    for part, limit in {"solvers": 60.0}.items() if asked.quick else COMPARISON.items():
        found["comparisons"] += run_comparison(part, asked, clock.least(limit))
        save(found, asked.out)
    print(f"{clock.seconds_so_far():.0f} s in all", flush=True)
    return None


class Clock:
    """The time that is left of all."""

    def __init__(self, seconds: float) -> None:
        self.started, self.seconds = time.perf_counter(), seconds

    def seconds_so_far(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def least(self, limit: float) -> float:
        """A part's limit, or what is left of all; at least a second."""
        return max(1.0, min(limit, self.seconds - self.seconds_so_far()))


def commands(image: Path, asked: argparse.Namespace) -> list[tuple[str, list[str], float]]:
    """Name, words and limit of each whole command."""
    networks, picture = HERE / "bench_networks.py", f"image={image.resolve()}"
    if asked.quick:
        test = ["model=python", f"model.factory={networks}:resnet_for_tests", "model.size=64", *SMALL]
        small = ["augmentation.samples=4", "interpreter.methods=[saliency]", "interpreter.steps=2"]
        folder = write_pictures(asked.out / "pictures", 2)
        batch = ["batch", f"images={folder}", *test, "interpreter=saliency"]
        return [("spade demo", ["demo", *small], 60), ("spade batch, 2 pictures", batch, 60)]
    resnet = ["model=python", f"model.factory={networks}:resnet50", "model.size=224"]
    weights = f"model.weights={asked.squeezenet.resolve()}" if asked.squeezenet else "model.weights=none"
    folder = write_pictures(asked.out / "pictures", 16)
    every = "interpreter.methods=all"
    return [
        ("spade demo", ["demo"], 60),
        ("spade run, ResNet50's shapes, default", ["run", picture, *resnet], 120),
        ("the same, interpreter=saliency", ["run", picture, *resnet, "interpreter=saliency"], 60),
        ("spade run, SqueezeNet", ["run", picture, "model=squeezenet1_1", weights], 60),
        ("spade run, ViT-B/16, every method", ["run", picture, "model=vit_b_16", "model.weights=none", every], 120),
        ("spade batch, 16 pictures, SqueezeNet", ["batch", f"images={folder}", "model=squeezenet1_1", weights], 120),
    ]


def write_pictures(folder: Path, count: int) -> Path:
    """`count` pictures of soft patches, each turned another way."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(write_patches(folder.parent / "patches.png")) as patches:
        for number in range(count):
            patches.rotate(20 * number).save(folder / f"{number}.png")
    return folder.resolve()


def run_tests(asked: argparse.Namespace, limit: float) -> dict[str, Any]:
    """The tests on the device (those of pages need a browser); a stop leaves what was reported until then."""
    files = ["tests/test_device.py", "-k", "solvers"] if asked.quick else [*TEST_FIRST, "tests"]
    words = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", *files]
    log, seconds, code = run_limited(words, asked, "tests.txt", limit, {"SPADE_TEST_DEVICE": asked.device})
    verdicts = {word: log.count(f" {word} ") for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    failed = [line.partition(" ")[0] for line in log.splitlines() if "::" in line and " FAILED " in line]
    return {"seconds": seconds, "code": code, "verdicts": verdicts, "failed": failed[:40], "end": log[-2000:]}


def run_comparison(part: str, asked: argparse.Namespace, limit: float) -> list[dict[str, Any]]:
    """The rows of a part; its fault, if it failed or was stopped, is one more."""
    words = [sys.executable, str(HERE / "bench_devices.py"), part, "--device", asked.device]
    words += ["--quick"] if asked.quick else []
    log, seconds, code = run_limited(words, asked, f"{part}.txt", limit, {})
    rows = [json.loads(line) for line in log.splitlines() if line.startswith('{"name"') and line.endswith("}")]
    if code:
        rows.append({"name": part, "fault": f"exit code {code} after {seconds:.0f} s", "end": log[-2000:]})
    return rows


def run_limited(
    words: Sequence[str], asked: argparse.Namespace, name: str, limit: float, more: dict[str, str]
) -> tuple[str, float, int]:
    """What a process printed, which is kept in a file of `out`; its seconds; its exit code (negative: ended)."""
    path = asked.out / name
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(OWN), str(HERE)]), "PYTHONUNBUFFERED": "1", **more}
    with path.open("w") as log:
        process = subprocess.Popen(
            words, cwd=OWN, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with what it started
            code = process.wait()
    return path.read_text(errors="replace"), time.perf_counter() - started, code


def save(found: dict[str, Any], out: Path) -> None:
    """Both files, as far as things are known."""
    partly = out / "bench_gpu.json.part"
    partly.write_text(json.dumps(found, indent=1), encoding="utf-8")
    partly.replace(out / "bench_gpu.json")
    (out / "bench_gpu.md").write_text(page(found), encoding="utf-8")


def page(found: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    lines = []
    for one in found["commands"]:
        stages = {name: f"{value:.1f}" for name, value in one["stages"].items() if name != "total"}
        shown = ", ".join(f"{name} {value}" for name, value in stages.items())
        fault = one["fault"].replace("\n", " ").replace("|", "/")
        lines.append((one["name"], f"{one['seconds']:.1f}", f"{one['peak']:.2f}", fault or shown))
    text = f"## On a GPU\n\n{found['machine']}\n\n"
    text += table(("command", "whole process, s", "peak of the host's memory, GB", "seconds by stage"), lines)
    if tests := found.get("tests"):
        verdicts = ", ".join(f"{count} {word.lower()}" for word, count in tests["verdicts"].items() if count)
        ended = "" if tests["code"] in (0, 1) else f", then ended with code {tests['code']}"
        text += (
            f"\n\nTests with `SPADE_TEST_DEVICE={found['device']}`: {verdicts or 'none'} in {tests['seconds']:.0f} s"
        )
        text += ended + "".join(f"\n- `{name}` failed" for name in tests["failed"])
    rows = []
    for row in found["comparisons"]:
        if "fault" in row:
            rows.append((row["name"], "", "", "", "", row["fault"]))
            continue
        memory = "" if row["memory"] is None else f"{row['memory']:.2f}"
        same = f"{row['compared']}: {row['value']:.3g} ({row['limit']}){'' if row['same'] else ' **differs**'}"
        faster = f"{row['cpu'] / row['device']:.1f} x" if row["device"] else ""
        rows.append((row["name"], f"{row['device']:.2f}", f"{row['cpu']:.2f}", faster, memory, same))
    if rows:
        text += "\n\nThe first call of a process counts, with whatever the device loads for it.\n\n"
        head = ("", f"{found['device']}, s", "CPU, s", "faster", "its memory, GB", "whether both find the same")
        text += table(head, rows)
    return text


def describe(device: str) -> str:
    """Processor, torch and GPU, in a line."""
    import torch

    gpu = (
        torch.cuda.get_device_name() if device.startswith("cuda") and torch.cuda.is_available() else f"device={device}"
    )
    return f"{machine()} {gpu}."


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench_gpu"), help="folder of the result")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=LIMIT / 60 - 2, help="of all parts together")
    parser.add_argument(
        "--squeezenet", type=Path, help="a state dict of torchvision's squeezenet1_1; random if left out"
    )
    parser.add_argument("--quick", action="store_true", help="small networks and few steps, to try the script")
    parser.add_argument("--write", type=Path, metavar="JSON", help="put this result into docs/benchmarks.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
