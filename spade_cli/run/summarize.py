"""trace, explanations -> summary: predictions and fidelity; and what is printed at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from spade_cli.models import Classifier
from spade_cli.models.checkpoints import hash_file
from spade_cli.networks.modes_and_seeds import ask_network
from spade_cli.networks.question import Question
from spade_cli.networks.scores import Output
from spade_cli.pruning import Trace
from spade_cli.pruning.fidelity import LEAST_KEPT, agreement
from spade_cli.report.summary import (
    VIEW,
    AugmentationRecord,
    FidelityRecord,
    ImageRecord,
    ModelRecord,
    Prediction,
    Predictions,
    SparsityRecord,
    Summary,
    versions,
)
from spade_cli.run.explain import Explanations
from spade_cli.run.flags import LEAST_AGREEMENT, list_flags
from spade_cli.run.request import ImagePlan, name_classes
from spade_cli.version import __version__


def summarize(plan: ImagePlan, trace: Trace, trace_logits: Tensor, results: Sequence[Explanations]) -> Summary:
    """The summary but for the seconds; `trace_logits` (samples, classes) is what the trace says about the samples."""
    request, classifier, question = plan.request, plan.classifier, plan.question
    with torch.no_grad():
        logits = ask_network(trace.model, plan.x)[0].cpu()  # (classes,)
    predictions = Predictions(
        describe_answer(plan.answer.logits, question, classifier), describe_answer(logits, question, classifier)
    )
    fidelity = compare_answers(plan, trace, logits, trace_logits, predictions)
    return Summary(
        target=name_classes(question, classifier),
        prediction=predictions,
        fidelity=fidelity,
        sparsity=count_weights(trace, request.trace.level),
        flags=tuple(list_flags(plan, trace, predictions, fidelity, results)),
        spade_version=__version__,
        versions=versions(),
        command=request.command,
        seed=request.seed,
        device=str(plan.x.device),
        image=ImageRecord(
            path=request.source or str(request.image.resolve()),
            sha256=hash_file(request.image),
            size=(plan.image.shape[2], plan.image.shape[1]),
            view=VIEW,
        ),
        model=ModelRecord(
            classifier.name, classifier.weights, classifier.sha256, classifier.output.value, classifier.classes
        ),
        augmentation=AugmentationRecord(request.trace.augmentation_name, request.trace.sample_count),
        pruner=request.trace.pruner_name,
        schedule=request.trace.schedule_name,
        layers=trace.layers,
        trials=trace.trials,
        map_traces=trace.others.map_trials if trace.others else (),
        visualization_traces=trace.others.visualization_trials if trace.others else (),
        saliency=tuple(record for result in results for record in result.saliency),
        visualizations=tuple(record for result in results for record in result.visualizations),
        skipped=tuple(record for result in results for record in result.skipped),
    )


def describe_answer(logits: Tensor, question: Question, classifier: Classifier) -> Prediction:
    """What a network says about the image, from its logits (classes,)."""
    probabilities = classifier.output.probabilities(logits)
    index, sure = int(probabilities.argmax()), float(question.probability(logits, classifier.output))
    label = classifier.output.name_answer(logits, classifier.label)
    return Prediction(index, label, float(probabilities[index]), sure)


def compare_answers(
    plan: ImagePlan, trace: Trace, logits: Tensor, trace_logits: Tensor, predictions: Predictions
) -> FidelityRecord:
    """The trace's fidelity: `logits` (classes,) on the image, `trace_logits` (samples, classes) on the samples."""
    output = plan.classifier.output
    same = bool(output.same_answer(plan.answer.logits, logits))
    alike = agreement(trace.logits, trace_logits, output)
    kept = predictions.trace.target_probability >= predictions.dense.target_probability * LEAST_KEPT
    # auto seeks the largest difference that keeps this image's answer: what other samples say is no guard then.
    agrees = plan.run_plan.shares.is_searched or alike["agreement"] >= LEAST_AGREEMENT
    return FidelityRecord(same, alike["agreement"], alike["kl"], same and kept and agrees)


def count_weights(trace: Trace, level: float | None) -> SparsityRecord:
    """What was asked and what came out, over all weights; `level` None: the schedule's own."""
    wanted = sum(layer.asked * layer.weights for layer in trace.layers)
    asked = wanted / trace.weights_total if trace.weights_total else 0.0
    return SparsityRecord(level, asked, trace.sparsity, trace.weights_total, trace.weights_kept)


def write_headline(summary: Summary, image: str) -> tuple[str, list[str], tuple[str, ...]]:
    """The overview's title, the lines below it, and the flags; `image` is the file's name."""
    lines = [
        f"{image}, {summary.model.name}",
        f"dense: {name_prediction(summary, summary.prediction.dense)}",
        f"trace: {name_prediction(summary, summary.prediction.trace)}",
        f"same answer on {summary.fidelity.agreement:.0%} of {summary.augmentation.samples} samples",
        f"{summary.pruner}, {summary.schedule}: {name_pruning(summary)}",
    ]
    return f"why {summary.target.words}?", lines, summary.flags


def print_summary(summary: Summary, report: Path, console: Console) -> None:
    """The end of a run: what both networks said, how faithful the trace is, every flag, and where the report is.

    A table on a terminal, a line for each row elsewhere.
    """
    rows = list(_list_rows(summary, report))
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


def _list_rows(summary: Summary, report: Path) -> Iterator[tuple[str, str, str]]:
    """Name, text and rich's style of each; the last is named after the page, or after the picture if there is none."""
    fidelity = summary.fidelity
    yield "dense", name_prediction(summary, summary.prediction.dense), ""
    yield "trace", name_prediction(summary, summary.prediction.trace), ""
    word, style = ("faithful", "green") if fidelity.faithful else ("not faithful", "yellow")
    kept = "this image's answer is kept" if fidelity.same_prediction else "this image's answer changes"
    others = f"samples: {fidelity.agreement:.1%} get the same answer, KL {fidelity.kl:.3f} nats"
    yield "fidelity", f"{word}: {kept}; {others}", style
    yield "sparsity", f"{summary.sparsity.achieved:.1%}; {name_pruning(summary)}", ""
    yield "seconds", f"{summary.seconds['total']:.1f}", ""
    for flag in summary.flags:
        yield "flag", flag, "yellow"
    for skipped in summary.skipped:
        yield "skipped", f"{skipped.what}: {skipped.why}", "dim"
    yield report.stem, str(report), "bold"


def name_prediction(summary: Summary, prediction: Prediction) -> str:
    """A network's answer and its probability; the target's as well where that is another."""
    target = f"{summary.target.words} {prediction.target_probability:.1%}"
    if summary.model.output == Output.SIGMOID and prediction.label != summary.target.words:
        return f"{prediction.label}; {target}"
    is_answer = prediction.index == summary.target.index and not summary.target.against
    other = "" if is_answer else f"; {target}"
    return f"{prediction.label} {prediction.probability:.1%}{other}"


def name_pruning(summary: Summary) -> str:
    """How many layers were pruned, and how many weights are left."""
    sparsity = summary.sparsity
    return (
        f"{summary.layers_pruned} of {len(summary.layers)} layers pruned; "
        f"{sparsity.weights_kept:,} of {sparsity.weights_total:,} weights kept"
    )
