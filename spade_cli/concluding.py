"""trace, explanations -> report: what summary.json says, what is flagged, what stands above the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor

from spade_cli.explaining import Result
from spade_cli.pruning import Trace
from spade_cli.report import summary
from spade_cli.request import Question


@torch.no_grad()
def conclude(
    question: Question, trace: Trace, trace_logits: Tensor, results: Sequence[Result], seconds: Mapping[str, float]
) -> dict[str, Any]:
    """The content of summary.json; `trace_logits` (samples, classes) is what the trace says about the samples."""
    request, classifier, target = question.request, question.classifier, question.target
    dense = summary.prediction(question.dense_logits, target, classifier.label)
    traced = summary.prediction(trace.model(question.x)[0].cpu(), target, classifier.label)
    versions = summary.versions()
    return {
        "schema_version": summary.SCHEMA_VERSION,
        "spade_version": versions["spade-cli"],
        "versions": versions,
        "command": request.command,
        "seed": request.seed,
        "device": str(question.x.device),
        "image": {**summary.file_record(request.image), "size": [question.image.shape[2], question.image.shape[1]]},
        "model": {"name": classifier.name, "weights": classifier.weights, "sha256": classifier.sha256},
        "target": {"index": target, "label": classifier.label(target)},
        "augmentation": {"name": request.augmentation_name, "samples": request.samples},
        "pruner": request.pruner_name,
        "schedule": request.schedule_name,
        "prediction": {"dense": dense, "trace": traced},
        "fidelity": {
            "same_prediction": dense["index"] == traced["index"],
            **summary.fidelity(trace.logits, trace_logits),
        },
        "sparsity": summary.sparsity(trace, request.sparsity),
        "flags": _flags(question, trace, dense, traced, results),
        "layers": summary.layer_records(trace),
        "saliency": [record for result in results for record in result.saliency],
        "visualizations": [record for result in results for record in result.visualizations],
        "skipped": [record for result in results for record in result.skipped],
        "seconds": dict(seconds),
    }


def _flags(
    question: Question, trace: Trace, dense: Mapping[str, Any], traced: Mapping[str, Any], results: Sequence[Result]
) -> list[str]:
    """What a reader of the pictures has to know, most important first; one line each."""
    flags = list(question.classifier.notes)
    if question.classifier.weights == "none":
        flags.insert(0, "the network is untrained (model.weights=none): its explanations mean nothing")
    if dense["index"] != traced["index"]:
        flags.insert(
            0,
            f"the trace predicts {traced['label']}, the dense network {dense['label']}: "
            "it is not faithful; lower pruner.sparsity or prune fewer layers",
        )
    for layer in trace.layers:
        if layer.left and question.shares.get(layer.name):
            flags.append(f"layer {layer.name} was left dense: {layer.left}")
    return flags + [flag for result in results for flag in result.flags]


def headline(question: Question, found: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The overview's title and the lines below it."""
    dense, traced, sparse = found["prediction"]["dense"], found["prediction"]["trace"], found["sparsity"]
    request, agreement = question.request, found["fidelity"]["agreement"]
    lines = [
        f"{request.image.name}, {question.classifier.name}",
        f"dense network: {dense['label']}, {dense['probability']:.1%}",
        f"trace: {traced['label']}, {traced['probability']:.1%}; "
        f"same answer as the dense network on {agreement:.0%} of {request.samples} samples",
        f"{request.pruner_name}, {request.schedule_name}: "
        f"{sparse['weights_kept']:,} of {sparse['weights_total']:,} weights kept",
    ]
    if found["flags"]:
        others = len(found["flags"]) - 1
        lines.append(f"flagged: {found['flags'][0]}" + (f" (and {others} more)" if others else ""))
    return f"why {found['target']['label']}?", lines


def tell(found: Mapping[str, Any], console: Console) -> None:
    """The end of a run on the terminal: what both networks said, how faithful the trace is, and every flag."""
    fidelity, sparse = found["fidelity"], found["sparsity"]
    for name in ("dense", "trace"):
        said = found["prediction"][name]
        target = "" if said["index"] == found["target"]["index"] else f"; target {said['target_probability']:.1%}"
        console.print(Text(f"{name:<9} {said['label']} {said['probability']:.1%}{target}"))
    console.print(Text(f"fidelity  agreement {fidelity['agreement']:.1%}, KL {fidelity['kl']:.3f} nats"))
    console.print(Text(f"sparsity  {sparse['weights_kept']:,} of {sparse['weights_total']:,} weights kept"))
    for flag in found["flags"]:
        console.print(Text(f"flag      {flag}", style="yellow"))
    for skipped in found["skipped"]:
        console.print(Text(f"skipped   {skipped['what']}: {skipped['why']}", style="dim"))
