"""Runs the same commands with two checkouts of spade and says where their outputs differ.

python scripts/compare_versions.py OLD NEW [--work FOLDER] [--only WORD ...]

Every command runs with each checkout in an empty folder of its own, on small settings. Arrays and pictures are compared
to the last bit, JSON and tables value by value. What differs from run to run (seconds, dates, paths, versions) is left
out. It ends with 1 where anything differs.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

EIGHT = ("augmentation.samples=8",)
COMMANDS = {
    "demo": ("demo",),
    "world": ("world", "out=pictures", "count=6"),
    "run": (
        *("run", "image=PICTURE", "model=demo", "interpreter.methods=all", "interpreter.steps=16", *EIGHT),
        *("interpreter.lime.samples=50", "out=runs/1"),
    ),
    "run-uniform": (
        *("run", "image=PICTURE", "model=demo", "schedule=uniform", "pruner=obs", "pruner.sparsity=0.7", *EIGHT),
        *("interpreter=saliency", "out=runs/2", "seed=3", "target=key"),
    ),
    "run-layers": (
        *("run", "image=PICTURE", "model=squeezenet1_1", "model.weights=none", "pruner=sparsegpt", *EIGHT),
        *(
            "interpreter=saliency",
            "schedule.layers={classifier.1: 0.9, features.12.*: 0.8}",
            "schedule=late",
            "out=runs/3",
        ),
    ),
    "run-auto": ("run", "image=PICTURE", "model=demo", "interpreter=saliency", "keep=[]", "out=runs/4"),
    "batch": ("batch", "images=pictures", "model=demo", "interpreter=saliency", *EIGHT, "out=explained"),
    "batch-together": (
        *("batch", "images=pictures", "model=demo", "interpreter=saliency", "schedule=late", "pruner=sparsegpt"),
        *("batch.size=3", *EIGHT, "out=explained-together"),
    ),
    "sweep": (
        *("sweep", "image=PICTURE", "model=demo", "pruner.sparsity=0.5,0.9", "pruner=forward,magnitude"),
        *("schedule=late", "interpreter=saliency", *EIGHT, "out=swept"),
    ),
    "eval": (
        *("eval", "count=4", "conditions=[dense,sparsegpt,forward@0.95]", *EIGHT, "held_out=8"),
        *("interpreter.methods=[saliency,lrp]", "out=evaluation"),
    ),
    "eval-concepts": (
        *("eval", "count=2", "trojan_share=1", "metrics=[concepts,fidelity]", "interpreter.steps=8", *EIGHT),
        *("out=evaluation-concepts",),
    ),
    "tune": (
        *("tune", "count=4", "interpreter.methods=[saliency]", "tuner=greedy", "blocks=1", "ladder=[0.9]", *EIGHT),
        *("out=tuned",),
    ),
    "neurons": ("neurons", "RUN-1", "top=2", "steps=8", "layers=fc"),
    "diff": ("diff", "RUN-1", "RUN-2", "out=diff.html", "steps=8", "top=1"),
    "doctor": ("doctor", "model=demo", *EIGHT, "interpreter.steps=8", "interpreter.methods=[saliency,lrp]"),
    "layers": ("layers", "model=squeezenet1_1"),
    "export": ("export", "RUN-1", "out=trace.safetensors"),
    "toy": ("toy", "out=toy.png"),
}
# Keys, columns and lines that differ from run to run, or from version to version.
VARYING = re.compile(
    r"seconds|folder|memory|time|date|spade_version|versions|command|path|started|finished|host|url|file|pid"
)
IGNORED_FILES = re.compile(r"run\.log|.*\.lock|.*\.(svg)")
CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T/]?(\d\d[:-]\d\d[:-]\d\d)?"), "DATE"),
    (re.compile(r"\d\d-\d\d-\d\d-"), "TIME-"),
    (re.compile(r"\d+(\.\d+)? (s|ms|seconds|minutes|MB|GB)\b"), "TOOK"),
    (re.compile(r'"?\bseconds"?\W+\d+(\.\d+)?'), "seconds TOOK"),
)


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--work", type=Path, help="folder that keeps both versions' files; default: none is kept")
    parser.add_argument("--only", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spade-compare-") as temporary:
        folders = [Path(asked.work or temporary, name) for name in ("old", "new")]
        said: dict[str, list[tuple[int, str]]] = {name: [] for name in asked.only}
        for folder in folders:
            folder.mkdir(parents=True)
        for name in asked.only:
            for checkout, folder in zip((asked.old, asked.new), folders, strict=True):
                said[name].append(run_command(checkout.resolve(), folder, COMMANDS[name]))
            print(f"{name}: exit codes {[code for code, _ in said[name]]}", flush=True)
        differences = [*compare_commands(said), *compare_folders(*folders)]
    for line in differences:
        print(line)
    print(f"{len(asked.only)} commands, {len(differences)} differences")
    return 1 if differences else 0


def run_command(checkout: Path, folder: Path, words: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and normalised stdout of one command in one folder."""
    ready = [substitute(word, checkout, folder) for word in words]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-m", "spade_cli", *ready], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        print(done.stderr[-2000:])
    return done.returncode, hide_changing(done.stdout, folder)


def substitute(word: str, checkout: Path, folder: Path) -> str:
    """The word with the names of the bundled picture and of earlier runs put in."""
    picture = next(iter(sorted((checkout / "spade_cli").rglob("demo*.png"))), None)
    if "PICTURE" in word:
        target = folder / "picture.png"
        if not target.exists():
            pictures = sorted((folder / "pictures").rglob("*.png"))
            target.write_bytes((picture or pictures[0]).read_bytes())
        return word.replace("PICTURE", "picture.png")
    if word.startswith("RUN-"):
        runs = sorted(path.parent for path in (folder / "runs").rglob("summary.json"))
        demo = [run for run in runs if "demo" in (run / "summary.json").read_text(encoding="utf-8")]
        return str(demo[int(word[4:]) - 1].relative_to(folder))
    return word


def hide_changing(text: str, folder: Path) -> str:
    """The text without paths, dates and times."""
    text = text.replace(str(folder), "FOLDER")
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return text


def compare_commands(said: dict[str, list[tuple[int, str]]]) -> Iterator[str]:
    """Commands whose exit code or stdout differ."""
    for name, (old, new) in said.items():
        if old != new:
            yield f"{name}: stdout or exit code differ: {first_difference(old[1], new[1])} ({old[0]}, {new[0]})"


def compare_folders(old: Path, new: Path) -> Iterator[str]:
    """Files that are in one folder only, and files whose content differs."""
    files = [{hide_changing(str(path.relative_to(root)), root): path for path in walk(root)} for root in (old, new)]
    for name in sorted(files[0].keys() ^ files[1].keys()):
        yield f"{name}: only in {'the old' if name in files[0] else 'the new'}"
    for name in sorted(files[0].keys() & files[1].keys()):
        difference = compare_files(files[0][name], files[1][name], old, new)
        if difference:
            yield f"{name}: {difference}"
    print(f"{len(files[0])} and {len(files[1])} files")


def walk(root: Path) -> Iterator[Path]:
    """Every file that says something."""
    for path in root.rglob("*"):
        if path.is_file() and not IGNORED_FILES.fullmatch(path.name):
            yield path


def compare_files(old: Path, new: Path, old_root: Path, new_root: Path) -> str:
    """What differs first, or nothing."""
    if old.suffix == ".npy":
        return "" if np.array_equal(np.load(old), np.load(new)) else "arrays differ"
    if old.suffix == ".safetensors":
        pair = load_file(old), load_file(new)
        same = pair[0].keys() == pair[1].keys() and all(np.array_equal(pair[0][k], pair[1][k]) for k in pair[0])
        return "" if same else "tensors differ"
    try:
        texts = [path.read_text(encoding="utf-8") for path in (old, new)]
    except UnicodeDecodeError:  # pictures and other binary files
        return "" if old.read_bytes() == new.read_bytes() else "bytes differ"
    if old.suffix == ".json":
        return first_difference(*(flatten(json.loads(text)) for text in texts))
    if old.suffix == ".jsonl":
        return first_difference(*(flatten([json.loads(line) for line in text.splitlines()]) for text in texts))
    if old.suffix == ".csv":
        return first_difference(*(flatten(list(csv.DictReader(text.splitlines()))) for text in texts))
    return first_difference(hide_changing(texts[0], old_root), hide_changing(texts[1], new_root))


def flatten(value: Any, prefix: str = "") -> str:
    """A line for each value that does not vary from run to run."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not VARYING.search(str(key))}
        return "".join(flatten(one, f"{prefix}.{key}") for key, one in sorted(kept.items()))
    if isinstance(value, list):
        return "".join(flatten(one, f"{prefix}[{index}]") for index, one in enumerate(value))
    return f"{prefix}={value!r}\n"


def first_difference(old: str, new: str) -> str:
    """The first line that differs, of both texts."""
    if old == new:
        return ""
    pairs = zip([*old.splitlines(), ""], [*new.splitlines(), ""], strict=False)
    one, other = next(((a, b) for a, b in pairs if a != b), ("", ""))
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return f"{one[max(0, start - 60) : start + 60]!r} / {other[max(0, start - 60) : start + 60]!r}"


if __name__ == "__main__":
    sys.exit(main())
