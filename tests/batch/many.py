"""What the tests of batches and sweeps share: pictures, quick settings, a command in a process that can be killed."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from networks import DEVICE, photograph

from spade_cli.images import augment
from spade_cli.report.checkpoint import load_trace

QUICK = (
    *("model=python", "model.factory=networks:small", "model.size=32", f"device={DEVICE}", "augmentation.samples=4"),
    *("interpreter=saliency", "interpreter.methods=[saliency]", "pruner=sparsegpt"),
)


def pictures(folder, count):
    """`count` pictures, in two sub-folders that share names."""
    for i in range(count):
        path = folder / f"dogs {i % 2}" / f"é {i // 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(seed=i).save(path)
    return folder


def table(out):
    """The rows of index.jsonl."""
    return [json.loads(line) for line in (Path(out) / "index.jsonl").read_text(encoding="utf-8").splitlines()]


def alike(one, other):
    """Whether two outputs hold the same rows, but for seconds, and maps; another number of threads rounds otherwise."""
    rows = [[flat(row) for row in table(out)] for out in (one, other)]
    maps = [{str(path.relative_to(out)): np.load(path) for path in Path(out).rglob("*.npy")} for out in (one, other)]
    return (
        len(rows[0]) == len(rows[1])
        and all(map(_equal, *rows))
        and maps[0].keys() == maps[1].keys()
        and all(np.allclose(maps[0][name], maps[1][name], rtol=1e-3, atol=1e-5) for name in maps[0])
    )


def _equal(mine, theirs):
    numbers = {key for key, value in mine.items() if isinstance(value, float)}
    return mine.keys() == theirs.keys() and all(
        math.isclose(mine[key], theirs[key], rel_tol=1e-4, abs_tol=1e-6) if key in numbers else mine[key] == theirs[key]
        for key in mine
    )


def flat(row, prefix=""):
    """A row's values by their dotted names, lists as text."""
    found = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        elif key not in ("seconds", "image"):
            found[prefix + key] = str(value) if isinstance(value, list) else value
    return found


def differing(run, result):
    """Names of the files that two folders do not share, or that differ; of traces, what they hold counts."""
    files = {path.relative_to(folder) for folder in (run, result) for path in folder.rglob("*") if path.is_file()}
    return {str(name) for name in files if not _alike(run / name, result / name)}


def _alike(one, other):
    if not (one.is_file() and other.is_file()):
        return False
    if one.suffix != ".safetensors":  # its header names things in an order of the day
        return one.read_bytes() == other.read_bytes()
    states = [load_trace(path) for path in (one, other)]
    return states[0].keys() == states[1].keys() and all(states[0][key].equal(states[1][key]) for key in states[0])


def started(*arguments):
    """The command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "spade_cli", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def dies_once(image, samples, preprocessing, seed, *, marker, pixel):
    """The paper's augmentation, but for one picture, on which the process is killed, until `marker` is there."""
    if image[0, 0, 0] == pixel and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return augment.paper(image, samples, preprocessing, seed)


def dies_always(image, samples, preprocessing, seed, *, pixel):
    """The same, each time."""
    if image[0, 0, 0] == pixel:
        os.kill(os.getpid(), signal.SIGKILL)
    return augment.paper(image, samples, preprocessing, seed)
