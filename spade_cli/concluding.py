"""trace, explanations -> report: what summary.json says, what is flagged, what stands above the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from spade_cli import __version__
from spade_cli.explaining import Result
from spade_cli.pruning import Trace
from spade_cli.report import summary
from spade_cli.request import Question

LEAST_KEPT = 0.5  # of the target's probability: a trace that lost half of it explains something else
LEAST_AGREEMENT = 0.5  # of the samples; good traces can differ on many crops that lack the evidence, but not on most


@torch.no_grad()
def conclude(question: Question, trace: Trace, trace_logits: Tensor, results: Sequence[Result]) -> dict[str, Any]:
    """summary.json but for the seconds; `trace_logits` (samples, classes) is what the trace says about the samples."""
    request, classifier, target = question.request, question.classifier, question.target
    dense = summary.prediction(question.dense_logits, target, classifier.label)
    traced = summary.prediction(trace.model(question.x)[0].cpu(), target, classifier.label)
    fidelity: dict[str, Any] = {
        "same_prediction": dense["index"] == traced["index"],
        **summary.fidelity(trace.logits, trace_logits),
    }
    return {
        "schema_version": summary.SCHEMA_VERSION,
        "target": {"index": target, "label": classifier.label(target)},
        "prediction": {"dense": dense, "trace": traced},
        "fidelity": fidelity,
        "sparsity": summary.sparsity(trace, request.sparsity),
        "flags": _flags(question, trace, dense, traced, fidelity["agreement"], results),
        "spade_version": __version__,
        "versions": summary.versions(),
        "command": request.command,
        "seed": request.seed,
        "device": str(question.x.device),
        "image": {
            **summary.file_record(request.image),
            **({"path": request.source} if request.source else {}),
            "size": [question.image.shape[2], question.image.shape[1]],
        },
        "model": {"name": classifier.name, "weights": classifier.weights, "sha256": classifier.sha256},
        "augmentation": {"name": request.augmentation_name, "samples": request.samples},
        "pruner": request.pruner_name,
        "schedule": request.schedule_name,
        "layers": summary.layer_records(trace),
        "saliency": [record for result in results for record in result.saliency],
        "visualizations": [record for result in results for record in result.visualizations],
        "skipped": [record for result in results for record in result.skipped],
    }


def _flags(
    question: Question,
    trace: Trace,
    dense: Mapping[str, Any],
    traced: Mapping[str, Any],
    agreement: float,
    results: Sequence[Result],
) -> list[str]:
    """What a reader of the pictures has to know, most important first; one line each."""
    flags = list(question.classifier.notes)
    if question.classifier.weights == "none":
        flags.insert(0, "the network is untrained (model.weights=none): its explanations mean nothing")
    before, after = dense["target_probability"], traced["target_probability"]
    advice = "lower pruner.sparsity or prune fewer layers"
    if dense["index"] != traced["index"]:
        flags.insert(
            0,
            f"the trace predicts {traced['label']}, the dense network {dense['label']}: it is not faithful; {advice}",
        )
    elif after < before * LEAST_KEPT:
        flags.insert(0, f"the target's probability falls from {before:.1%} to {after:.1%} on the trace; {advice}")
    elif agreement < LEAST_AGREEMENT:
        flags.append(f"the trace agrees with the dense network on {agreement:.0%} of the samples only; {advice}")
    for layer in trace.layers:
        if layer.left and question.shares.get(layer.name):
            flags.append(f"layer {layer.name} was left dense: {layer.left}")
    return flags + [flag for result in results for flag in result.flags]


def headline(question: Question, found: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    """The overview's title, the lines below it, and the flags."""
    request = question.request
    lines = [
        f"{request.image.name}, {question.classifier.name}",
        *(f"{name}: {_said(found, name)}" for name in ("dense", "trace")),
        f"same answer on {found['fidelity']['agreement']:.0%} of {request.samples} samples",
        f"{request.pruner_name}, {request.schedule_name}: {_kept(found)}",
    ]
    return f"why {found['target']['label']}?", lines, found["flags"]


def tell(found: Mapping[str, Any], console: Console) -> None:
    """The end of a run on the terminal: what both networks said, how faithful the trace is, and every flag."""
    fidelity = found["fidelity"]
    for name in ("dense", "trace"):
        console.print(Text(f"{name:<9} {_said(found, name)}"))
    console.print(Text(f"fidelity  agreement {fidelity['agreement']:.1%}, KL {fidelity['kl']:.3f} nats"))
    console.print(Text(f"sparsity  {_kept(found)}"))
    for flag in found["flags"]:
        console.print(Text(f"flag      {flag}", style="yellow"))
    for skipped in found["skipped"]:
        console.print(Text(f"skipped   {skipped['what']}: {skipped['why']}", style="dim"))


def _said(found: Mapping[str, Any], name: str) -> str:
    said, target = found["prediction"][name], found["target"]
    other = "" if said["index"] == target["index"] else f"; {target['label']} {said['target_probability']:.1%}"
    return f"{said['label']} {said['probability']:.1%}{other}"


def _kept(found: Mapping[str, Any]) -> str:
    sparse, layers = found["sparsity"], found["layers"]
    pruned = sum(layer["left"] is None for layer in layers)
    return (
        f"{pruned} of {len(layers)} layers pruned; "
        f"{sparse['weights_kept']:,} of {sparse['weights_total']:,} weights kept"
    )
