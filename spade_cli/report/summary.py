"""summary.json: what was asked, what was found, and what made it."""

import hashlib
import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor

from spade_cli.models import Classifier
from spade_cli.pruning import Trace

SCHEMA_VERSION = 1
VIEW = "image.png"  # what the network saw of the image, pixel by pixel
LIBRARIES = (
    *("torch", "torchvision", "numpy", "pillow", "captum", "scikit-image", "torch-lucent", "kornia"),
    *("safetensors", "hydra-core", "omegaconf"),
)


@cache  # looked up in the installed files: many images need it once
def versions() -> dict[str, str]:
    """Python and every library that has a say in the result."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def file_record(path: Path) -> dict[str, Any]:
    """An input file as it was: its place and its SHA-256."""
    return {"path": str(path.resolve()), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def prediction(logits: Tensor, target: int, classifier: Classifier) -> dict[str, Any]:
    """What a network says about the image, from its logits (classes,).

    index, probability: of the likeliest class. label: the answer in words, its name or those of all labels above 0.5.
    """
    probabilities = classifier.output.probabilities(logits)
    index = int(probabilities.argmax())
    return {
        "index": index,
        "label": classifier.output.name_answer(logits, classifier.label),
        "probability": float(probabilities[index]),
        "target_probability": float(probabilities[target]),
    }


def sparsity(trace: Trace, level: float | None) -> dict[str, Any]:
    """Level asked for (None: the schedule's own), what the schedule made of it over all weights, and what came out."""
    wanted = sum(layer.asked * layer.weights for layer in trace.layers)
    return {
        "level": level,
        "asked": wanted / trace.weights_total if trace.weights_total else 0.0,
        "achieved": trace.sparsity,
        "weights_total": trace.weights_total,
        "weights_kept": trace.weights_kept,
    }


def layer_records(trace: Trace) -> list[dict[str, Any]]:
    """One entry a layer, as in LayerRecord."""
    return [{**vars(layer), "shape": list(layer.shape)} for layer in trace.layers]


def trial_records(trace: Trace) -> list[dict[str, Any]]:
    """One entry for each setting that schedule=auto tried, in order; empty with other schedules."""
    return [{**vars(trial), "fidelity": vars(trial.fidelity)} for trial in trace.trials]


def write(summary: dict[str, Any], path: Path) -> None:
    """As JSON that any reader takes: no NaN, names in their own script."""
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
