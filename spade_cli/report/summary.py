"""summary.json: what was asked, what was found, and what made it."""

import hashlib
import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spade_cli.pruning import Trace

SCHEMA_VERSION = 1
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


def prediction(logits: Tensor, target: int, label: Any) -> dict[str, Any]:
    """What a network says about the image, from its logits (classes,); `label` turns an index into a name."""
    probabilities = logits.double().softmax(0)
    index = int(probabilities.argmax())
    return {
        "index": index,
        "label": label(index),
        "probability": float(probabilities[index]),
        "target_probability": float(probabilities[target]),
    }


def fidelity(dense: Tensor, trace: Tensor) -> dict[str, float]:
    """How alike two networks are on the samples, from their logits (samples, classes).

    agreement: share of samples with the same top-1; kl: mean KL(dense || trace) in nats.
    """
    p, q = dense.double().log_softmax(1), trace.double().log_softmax(1)
    kl = torch.nn.functional.kl_div(q, p, reduction="batchmean", log_target=True)
    agreement = (p.argmax(1) == q.argmax(1)).double().mean()
    return {"agreement": float(agreement), "kl": max(0.0, float(kl))}  # rounding can leave -1e-17


def sparsity(trace: Trace, level: float) -> dict[str, Any]:
    """Level asked for, what the schedule made of it over all weights, and what came out."""
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


def write(summary: dict[str, Any], path: Path) -> None:
    """As JSON that any reader takes: no NaN, names in their own script."""
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
