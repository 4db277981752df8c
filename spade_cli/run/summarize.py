"""trace, explanations -> report: what summary.json says, what is flagged, what stands above the pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from spade_cli.networks.borrow import ask_network
from spade_cli.networks.scores import Output
from spade_cli.pruning import Fidelity, Judge, Trace, breaking_layer
from spade_cli.pruning.fidelity import LEAST_KEPT, agreement
from spade_cli.report import summary
from spade_cli.run.explain import Result
from spade_cli.run.request import Question
from spade_cli.version import __version__

LEAST_AGREEMENT = 0.5  # of the samples; good traces can differ on many crops that lack the evidence, but not on most


@torch.no_grad()
def conclude(question: Question, trace: Trace, trace_logits: Tensor, results: Sequence[Result]) -> dict[str, Any]:
    """summary.json but for the seconds; `trace_logits` (samples, classes) is what the trace says about the samples."""
    request, classifier, target = question.request, question.classifier, question.target
    said = ask_network(trace.model, question.x)[0].cpu()  # (classes,)
    dense = summary.prediction(question.answer.logits, target, classifier)
    traced = summary.prediction(said, target, classifier)
    fidelity: dict[str, Any] = {
        "same_prediction": bool(classifier.output.same_answer(question.answer.logits, said)),
        **agreement(trace.logits, trace_logits, classifier.output),
    }
    kept = traced["target_probability"] >= dense["target_probability"] * LEAST_KEPT
    # auto seeks the largest difference that keeps this image's answer: what other samples say is no guard then.
    agrees = question.plan.shares.is_searched or fidelity["agreement"] >= LEAST_AGREEMENT
    fidelity["faithful"] = fidelity["same_prediction"] and kept and agrees
    return {
        "schema_version": summary.SCHEMA_VERSION,
        "target": {"index": target, "label": classifier.label(target)},
        "prediction": {"dense": dense, "trace": traced},
        "fidelity": fidelity,
        "sparsity": summary.sparsity(trace, request.trace.level),
        "flags": _flags(question, trace, dense, traced, fidelity, results),
        "spade_version": __version__,
        "versions": summary.versions(),
        "command": request.command,
        "seed": request.seed,
        "device": str(question.x.device),
        "image": {
            **summary.file_record(request.image),
            **({"path": request.source} if request.source else {}),
            "size": [question.image.shape[2], question.image.shape[1]],
            "view": summary.VIEW,
        },
        "model": {
            "name": classifier.name,
            "weights": classifier.weights,
            "sha256": classifier.sha256,
            "output": classifier.output.value,
            "classes": classifier.classes,
        },
        "augmentation": {"name": request.trace.augmentation_name, "samples": request.trace.sample_count},
        "pruner": request.trace.pruner_name,
        "schedule": request.trace.schedule_name,
        "layers": summary.layer_records(trace),
        "trials": summary.trial_records(trace),
        "saliency": [record for result in results for record in result.saliency],
        "visualizations": [record for result in results for record in result.visualizations],
        "skipped": [record for result in results for record in result.skipped],
    }


def _flags(
    question: Question,
    trace: Trace,
    dense: Mapping[str, Any],
    traced: Mapping[str, Any],
    fidelity: Mapping[str, Any],
    results: Sequence[Result],
) -> list[str]:
    """What a reader of the pictures has to know, most important first; one line each."""
    flags = [*question.notes, *question.classifier.notes]
    if question.classifier.weights == "none":
        flags.insert(0, "the network is untrained (model.weights=none): its explanations mean nothing")
    flags = _unfaithful(question, trace, dense, traced, fidelity) + flags
    wanted = question.plan.shares.given
    for layer in trace.layers:
        if layer.left and wanted.get(layer.name):
            flags.append(f"layer {layer.name} was left dense: {layer.left}")
    return flags + [flag for result in results for flag in result.flags]


def _unfaithful(
    question: Question,
    trace: Trace,
    dense: Mapping[str, Any],
    traced: Mapping[str, Any],
    fidelity: Mapping[str, Any],
) -> list[str]:
    """In what the trace is not the network that was asked about, and which layer broke it; empty where all is well."""
    before, after = dense["target_probability"], traced["target_probability"]
    advice = "use schedule=auto, lower pruner.sparsity or prune fewer layers"
    if not fidelity["same_prediction"]:
        layer = _breaking(question, trace, lambda found: found.same_prediction)
        return [
            f"the trace predicts {traced['label']}, the dense network {dense['label']}: it is not faithful; pruned "
            f"from the output back, the answer changes at {layer}; {advice}"
        ]
    if after < before * LEAST_KEPT:
        layer = _breaking(question, trace, lambda found: found.pruned >= found.dense * LEAST_KEPT)
        return [
            f"the target's probability falls from {before:.1%} to {after:.1%} on the trace; pruned from the output "
            f"back, it is halved at {layer}; {advice}"
        ]
    if question.plan.shares.is_searched:  # it seeks the largest difference that keeps this image's answer
        if trace.trials and not any(trial.faithful for trial in trace.trials):
            gentlest = min(trace.trials, key=lambda trial: (len(trial.shares), min(trial.shares.values())))
            (block, share), *_ = gentlest.shares.items()
            fixed = any(question.plan.shares.given.values())
            left = "only what schedule.layers names is pruned" if fixed else "this is the dense network"
            return [
                f"schedule=auto found no trace that keeps the prediction: {left}; {block} alone at "
                f"{share:g} {_effect(gentlest.fidelity)}; lower schedule.fidelity, or give shares with schedule.layers"
            ]
    elif fidelity["agreement"] < LEAST_AGREEMENT:
        agreed = f"{fidelity['agreement']:.0%}"
        return [f"the trace agrees with the dense network on {agreed} of the samples only; {advice}"]
    return []


def _effect(found: Fidelity) -> str:
    falls = f"takes the target's probability from {found.dense:.1%} to {found.pruned:.1%}"
    return falls if found.same_prediction else f"{falls} and changes the answer"


def _breaking(question: Question, trace: Trace, holds: Callable[[Fidelity], bool]) -> str:
    pruned = [layer.name for layer in trace.layers if layer.left is None]
    judge = Judge(question.x, question.answer.logits, question.target, output=question.classifier.output)
    found = breaking_layer(question.classifier.model, trace.model, pruned, judge, holds)
    return found or "no single layer"


def headline(question: Question, found: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    """The overview's title, the lines below it, and the flags."""
    request = question.request
    lines = [
        f"{request.image.name}, {question.classifier.name}",
        *(f"{name}: {_said(found, name)}" for name in ("dense", "trace")),
        f"same answer on {found['fidelity']['agreement']:.0%} of {request.trace.sample_count} samples",
        f"{request.trace.pruner_name}, {request.trace.schedule_name}: {_kept(found)}",
    ]
    return f"why {found['target']['label']}?", lines, found["flags"]


def tell(found: Mapping[str, Any], report: Path, console: Console) -> None:
    """The end of a run: what both networks said, how faithful the trace is, every flag, and where the report is.

    A table on a terminal, a line for each row elsewhere.
    """
    rows = list(_rows(found, report))
    if not console.is_terminal:
        for name, text, _ in rows:
            console.print(Text(f"{name:<9} {text}"))
        return
    table = Table(box=ROUNDED, show_header=False, border_style="dim", padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text, style in rows:
        table.add_row(name, Text(text, style=style))
    console.print(table)


def _rows(found: Mapping[str, Any], report: Path) -> Iterator[tuple[str, str, str]]:
    """Name, text and rich's style of each; the last is named after the page, or after the picture if there is none."""
    fidelity = found["fidelity"]
    yield "dense", _said(found, "dense"), ""
    yield "trace", _said(found, "trace"), ""
    word, style = ("faithful", "green") if fidelity["faithful"] else ("not faithful", "yellow")
    kept = "this image's answer is kept" if fidelity["same_prediction"] else "this image's answer changes"
    others = f"augmented copies: {fidelity['agreement']:.1%} get the same answer, KL {fidelity['kl']:.3f} nats"
    yield "fidelity", f"{word}: {kept}; {others}", style
    yield "sparsity", f"{found['sparsity']['achieved']:.1%}; {_kept(found)}", ""
    yield "seconds", f"{found['seconds']['total']:.1f}", ""
    for flag in found["flags"]:
        yield "flag", flag, "yellow"
    for skipped in found["skipped"]:
        yield "skipped", f"{skipped['what']}: {skipped['why']}", "dim"
    yield report.stem, str(report), "bold"


def _said(found: Mapping[str, Any], name: str) -> str:
    said, target = found["prediction"][name], found["target"]
    if found["model"]["output"] == Output.SIGMOID and said["label"] != target["label"]:
        return f"{said['label']}; {target['label']} {said['target_probability']:.1%}"
    other = "" if said["index"] == target["index"] else f"; {target['label']} {said['target_probability']:.1%}"
    return f"{said['label']} {said['probability']:.1%}{other}"


def _kept(found: Mapping[str, Any]) -> str:
    sparse, layers = found["sparsity"], found["layers"]
    pruned = sum(layer["left"] is None for layer in layers)
    return (
        f"{pruned} of {len(layers)} layers pruned; "
        f"{sparse['weights_kept']:,} of {sparse['weights_total']:,} weights kept"
    )
