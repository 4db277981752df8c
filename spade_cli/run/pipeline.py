"""The run, one line per arrow of the paper's figure; the only file that knows the order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from spade_cli.devices import device_of, full_precision
from spade_cli.errors import UserError
from spade_cli.images import augment
from spade_cli.images.download import copy_to_folder
from spade_cli.images.load import as_image
from spade_cli.models import Classifier, wrap
from spade_cli.networks.borrow import seed_generators
from spade_cli.progress import Stages, log_to_file
from spade_cli.pruning import Auto, Layer, Pruning, Statistics, Trace, find_layers, pruner_named
from spade_cli.pruning import schedule as schedules
from spade_cli.report import checkpoint, summary
from spade_cli.report.overview import overview
from spade_cli.report.pictures import picture
from spade_cli.report.run_folder import run_folder
from spade_cli.report.run_page import write_report
from spade_cli.report.runs import OVERVIEW, REPORT
from spade_cli.run import explain
from spade_cli.run.calibrate import Calibration, calibrate, passes, store_for
from spade_cli.run.find_trace import Subject, find_trace, subject_of
from spade_cli.run.request import Question, Request, decide
from spade_cli.run.summarize import conclude, headline, tell

__all__ = ["Request", "run", "trace", "traces"]


def run(request: Request, console: Console | None = None) -> Path:
    """image -> samples -> hessians -> trace -> explanations -> report. Returns the finished folder.

    Raises UserError before anything is written where the request cannot be met, and SpadeError where something fails
    later; the folder then vanishes.
    """
    with _at_hand(request) as local:
        return _explain(local, Stages(console))


@contextmanager
def _at_hand(request: Request) -> Iterator[Request]:
    """The request with a local copy of the picture that its URL names; the copy is gone after the block."""
    if not request.source:
        yield request
        return
    with tempfile.TemporaryDirectory(prefix="spade-") as folder:
        yield replace(request, image=copy_to_folder(request.source, Path(folder)))


def _explain(request: Request, stages: Stages) -> Path:
    with full_precision(), stages.stage("load"):
        question = decide(request)
    classifier, name = question.classifier, request.image.stem
    with full_precision(), run_folder(request.output, name) as folder, log_to_file(folder.partial / "run.log"):
        with stages.stage("augment"):
            copies = request.augmentation(question.image, request.samples, classifier.preprocessing, request.seed)
        (trace,) = make_traces(
            classifier,
            [copies],
            question.layers,
            question.shares,
            request.pruner,
            subjects=[question.subject],
            damping=request.damping,
            calibration=request.calibration,
            seed=request.seed,
            stages=stages,
        )
        found = write_run(question, copies, trace, folder.partial, stages)
    tell(found, folder.path / (REPORT if "report" in request.keep else OVERVIEW), stages.console)
    return folder.path


def write_run(
    question: Question,
    copies: Tensor,
    trace: Trace,
    folder: Path,
    stages: Stages,
    known: explain.Known | None = None,
) -> dict[str, Any]:
    """trace -> explanations -> report: every file of a run but its log; returns what summary.json says.

    `known` is what was made of the dense network before, for other traces of this image.
    """
    with seed_generators(question.request.seed, question.x.device):  # a network may draw random numbers itself
        return _write_run(question, copies, trace, folder, stages, known)


def _write_run(
    question: Question, copies: Tensor, trace: Trace, folder: Path, stages: Stages, known: explain.Known | None
) -> dict[str, Any]:
    request, classifier = question.request, question.classifier
    with stages.stage("fidelity", total=len(copies)) as advance:
        traced = replace(classifier, model=trace.model)
        trace_logits = calibrate(traced, copies, [], request.calibration, request.seed, on_batch=advance).logits
    networks = {"dense": classifier.model, "trace": trace.model}
    photograph = picture(question.view[0].cpu())
    explanations = [
        explain.explain(request.saliency, networks, question, photograph, folder, stages, known),
        explain.visualize(request.visualize, networks, question, folder, stages, known),
    ]
    with stages.stage("report"):
        found = conclude(question, trace, trace_logits, explanations)
        pairs = [pair for result in explanations for pair in result.pairs]
        overview(photograph, *headline(question, found), pairs).save(folder / OVERVIEW)
        photograph.save(folder / summary.VIEW)
        if "trace" in request.keep:
            checkpoint.save_trace(trace.model.state_dict(), folder / checkpoint.CHECKPOINT)
        (folder / "config.yaml").write_text(request.config, encoding="utf-8")
    found["seconds"] = stages.total()
    summary.write(found, folder / "summary.json")
    if "report" in request.keep:
        write_report(folder)
    return found


def trace(model: nn.Module | Classifier, image: Any, **settings: Any) -> Trace:
    """The trace of one image: `spade run` without the folder and the pictures; `traces` says what can be set.

    `image` is a path, a PIL image or a uint8 tensor (3, H, W).
    """
    return traces(model, [image], **settings)[0]


def traces(
    model: nn.Module | Classifier,
    images: Sequence[Any],
    *,
    pruner: str | Callable[..., Tensor] = "forward",
    sparsity: float | None = None,
    schedule: str | Callable[..., dict[str, float] | Auto] = "auto",
    layers: Mapping[str, float] | None = None,
    samples: int = 256,
    augmentation: str | Callable[..., Tensor] = "paper",
    damping: float = 0.01,
    calibration: Calibration = Calibration(),  # noqa: B008 (frozen)
    seed: int = 0,
    target: str | int | None = None,
) -> list[Trace]:
    """The trace of every image; each layer is solved for all of them at once where the pruner can.

    `model` is what `load_model` or `wrap` returned, or a bare network (then taken to see 224 x 224 pictures with
    ImageNet's mean and standard deviation); it stays as it is, on its device. Images are paths, PIL images or uint8
    tensors (3, H, W). `sparsity` None leaves the shares to the schedule; `layers` sets some by dotted name or glob, as
    `schedule.layers` does. `target` is the class asked about, an index or a label, None the likeliest one: its
    probability is what `auto` keeps. `pruner`, `schedule` and `augmentation` are names, as on the command line, or
    functions. Raises UserError for what cannot be.
    """
    if sparsity is not None and not 0 <= sparsity <= 1:
        raise UserError(f"sparsity={sparsity} is not a share: give a number from 0 to 1")
    if samples < 1:
        raise UserError(f"samples={samples}: a trace needs at least 1 sample")
    if not images:
        raise UserError("images is empty: give at least one")
    classifier = model if isinstance(model, Classifier) else wrap(model)
    solver = pruner_named(pruner) if isinstance(pruner, str) else pruner
    plan = _named(schedules.NAMED, schedule, "schedule") if isinstance(schedule, str) else schedule
    augmented = _named(augment.NAMED, augmentation, "augmentation") if isinstance(augmentation, str) else augmentation
    found = find_layers(classifier.model, classifier.grey())
    pictures = [as_image(image) for image in images]
    return make_traces(
        classifier,
        [augmented(picture, samples, classifier.preprocessing, seed) for picture in pictures],
        found,
        schedules.settle(plan, found, sparsity, layers or {}),
        solver,
        subjects=[subject_of(classifier, picture, target) for picture in pictures],
        damping=damping,
        calibration=calibration,
        seed=seed,
        stages=Stages(),
    )


def make_traces(
    classifier: Classifier,
    copies: Sequence[Tensor],
    layers: Sequence[Layer],
    shares: Mapping[str, float] | Auto,
    pruner: Callable[..., Tensor],
    *,
    subjects: Sequence[Subject],
    damping: float,
    calibration: Calibration,
    seed: int,
    stages: Stages,
) -> list[Trace]:
    """samples -> hessians -> traces of several images, all choices made; copies uint8 (samples, 3, size, size) each.

    subjects: what is asked about each image, for shares that are found by trying.
    """
    with seed_generators(seed, device_of(classifier.model)):  # a network may draw random numbers itself
        settings = (layers, shares, pruner, damping, calibration, seed, stages)
        return _make_traces(classifier, copies, subjects, *settings)


def _make_traces(
    classifier: Classifier,
    copies: Sequence[Tensor],
    subjects: Sequence[Subject],
    layers: Sequence[Layer],
    shares: Mapping[str, float] | Auto,
    pruner: Callable[..., Tensor],
    damping: float,
    calibration: Calibration,
    seed: int,
    stages: Stages,
) -> list[Trace]:
    if isinstance(shares, Auto):
        settings = (layers, shares, pruner, damping, calibration, seed, stages)
        return [find_trace(classifier, one, subject, *settings) for one, subject in zip(copies, subjects, strict=True)]
    wanted = [name for name, share in shares.items() if share > 0]
    by_name = {layer.name: layer for layer in layers}
    stores = [store_for(classifier, one, calibration, seed) for one in copies]
    pruning = Pruning(classifier.model, len(copies), damping)
    nothing = [Statistics({}, {}, Tensor()) for _ in copies]
    pruning.add([layer for layer in layers if layer.name not in wanted], {}, nothing, pruner)
    logits: list[Tensor] = []
    for part in passes(classifier.model, wanted, calibration.memory / len(copies)):
        with stages.stage("calibrate", total=sum(map(len, copies))) as advance:
            statistics = [
                calibrate(classifier, one, part, calibration, seed, store, advance)
                for one, store in zip(copies, stores, strict=True)
            ]
        with stages.stage("prune", total=len(part)) as advance:
            pruning.add([by_name[name] for name in part], shares, statistics, pruner, lambda _: advance(1))
        logits = [one.logits for one in statistics]
        del statistics  # before the next part is measured
    return pruning.traces(layers, logits)


def _named(known: Mapping[str, Callable[..., Any]], name: str, what: str) -> Callable[..., Any]:
    if name not in known:
        raise UserError(f"{what}={name!r} is unknown: give one of {', '.join(known)}, or a function")
    return known[name]
