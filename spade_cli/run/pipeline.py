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

from spade_cli.devices import full_precision
from spade_cli.errors import UserError
from spade_cli.images import augment
from spade_cli.images.download import copy_to_folder
from spade_cli.images.load import as_image
from spade_cli.models import Classifier, wrap
from spade_cli.models.questions import Target
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.progress import Stages, log_to_file
from spade_cli.pruning import Auto, Trace, find_layers, find_pruner
from spade_cli.pruning import schedule as schedules
from spade_cli.report import checkpoint
from spade_cli.report.overview import overview
from spade_cli.report.pictures import picture
from spade_cli.report.run_folder import run_folder
from spade_cli.report.run_page import write_report
from spade_cli.report.runs import OVERVIEW, REPORT
from spade_cli.report.summary import VIEW, Summary, write_summary
from spade_cli.run.calibrate import Calibration, run_samples
from spade_cli.run.explain import DenseResults, explain_networks, visualize_channels
from spade_cli.run.make_trace import make_traces, read_answer
from spade_cli.run.request import ImagePlan, RunRequest, plan_request
from spade_cli.run.summarize import print_summary, summarize, write_headline
from spade_cli.run.trace_settings import TraceSettings

__all__ = ["RunRequest", "run", "trace", "traces"]


def run(request: RunRequest, console: Console | None = None) -> Path:
    """image -> samples -> hessians -> trace -> explanations -> report. Returns the finished folder.

    Raises UserError before anything is written where the request cannot be met, and SpadeError where something fails
    later; the folder then vanishes.
    """
    with _local_image(request) as local:
        return _explain(local, Stages(console))


@contextmanager
def _local_image(request: RunRequest) -> Iterator[RunRequest]:
    """The request with a local copy of an image from a URL; the copy is deleted after the block."""
    if not request.source:
        yield request
        return
    with tempfile.TemporaryDirectory(prefix="spade-") as folder:
        yield replace(request, image=copy_to_folder(request.source, Path(folder)))


def _explain(request: RunRequest, stages: Stages) -> Path:
    with full_precision(), stages.stage("load"):
        image_plan = plan_request(request)
    plan, classifier, name = image_plan.run_plan, image_plan.classifier, request.image.stem
    with full_precision(), run_folder(request.output, name) as folder, log_to_file(folder.partial / "run.log"):
        with stages.stage("augment"):
            samples = request.trace.draw_samples(image_plan.image, classifier.preprocessing)
        (trace,) = make_traces(
            classifier, [samples], plan.layers, plan.shares, [image_plan.answer], request.trace, stages
        )
        summary = write_run(image_plan, samples, trace, folder.partial, stages)
    print_summary(summary, folder.path / (REPORT if "report" in request.keep else OVERVIEW), stages.console)
    return folder.path


def write_run(
    plan: ImagePlan,
    samples: Tensor,
    trace: Trace,
    folder: Path,
    stages: Stages,
    dense_results: DenseResults | None = None,
) -> Summary:
    """trace -> explanations -> report: every file of a run but its log; returns the summary.

    `dense_results` is what was made of the dense network before, for other traces of this image.
    """
    request, classifier = plan.request, plan.classifier
    with seed_generators(request.seed, plan.x.device):  # a network may draw random numbers itself
        with stages.stage("fidelity", total=len(samples)) as advance:
            pruned = replace(classifier, model=trace.model)
            trace_logits = run_samples(pruned, samples, request.trace.calibration, advance)
        of_maps = {"dense": (classifier.model,), "trace": trace.for_maps}
        of_visualizations = {"dense": (classifier.model,), "trace": trace.for_visualization}
        view = picture(plan.view[0].cpu())
        explanations = [
            explain_networks(request.saliency, of_maps, plan, view, folder, stages, dense_results),
            visualize_channels(request.visualize, of_visualizations, plan, folder, stages, dense_results),
        ]
        with stages.stage("report"):
            summary = summarize(plan, trace, trace_logits, explanations)
            pairs = [pair for result in explanations for pair in result.pairs]
            overview(view, *write_headline(summary, request.image.name), pairs).save(folder / OVERVIEW)
            view.save(folder / VIEW)
            if "trace" in request.keep:
                checkpoint.save_trace(trace.model.state_dict(), folder / checkpoint.CHECKPOINT)
            (folder / "config.yaml").write_text(request.config, encoding="utf-8")
        summary = replace(summary, seconds=stages.total())
        write_summary(summary, folder)
        if "report" in request.keep:
            write_report(folder)
        return summary


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
    target: Target | None = None,
    map_traces: int = 1,
    visualization_traces: int = 0,
) -> list[Trace]:
    """The trace of every image; each layer is solved for all of them at once where the pruner can.

    `model` is what `load_model` or `wrap` returned, or a bare network (then taken to see 224 x 224 pictures with
    ImageNet's mean and standard deviation); it stays as it is, on its device. Images are paths, PIL images or uint8
    tensors (3, H, W). `sparsity` None leaves the shares to the schedule; `layers` sets some by dotted name or glob, as
    `schedule.layers` does. `target` is what is asked about, None the likeliest class: an index, a label, a
    contrast `A:B` or `A:rivals`, or a function of the output, (n, classes) -> (n,). Its probability is what `auto`
    keeps. It hands on `map_traces` faithful traces as `Trace.for_maps`, and `visualization_traces` with a
    pruned head as `Trace.for_visualization`. `pruner`, `schedule` and `augmentation` are names, as on
    the command line, or functions. Raises UserError for what cannot be.
    """
    settings = replace(
        _read_settings(pruner, sparsity, schedule, layers, samples, augmentation, damping, calibration, seed),
        map_traces=map_traces,
        visualization_traces=visualization_traces,
    )
    if not images:
        raise UserError("images is empty: give at least one")
    classifier = model if isinstance(model, Classifier) else wrap(model)
    found = find_layers(classifier.model, classifier.grey())
    pictures = [as_image(image) for image in images]
    drawn = [settings.draw_samples(picture, classifier.preprocessing) for picture in pictures]
    answers = [read_answer(classifier, picture, target) for picture in pictures]
    return make_traces(classifier, drawn, found, settings.settle_shares(found), answers, settings, Stages())


def _read_settings(
    pruner: str | Callable[..., Tensor],
    sparsity: float | None,
    schedule: str | Callable[..., dict[str, float] | Auto],
    layers: Mapping[str, float] | None,
    samples: int,
    augmentation: str | Callable[..., Tensor],
    damping: float,
    calibration: Calibration,
    seed: int,
) -> TraceSettings:
    """The arguments of `traces` as settings; a name becomes its function. Raises UserError for what cannot be."""
    if sparsity is not None and not 0 <= sparsity <= 1:
        raise UserError(f"sparsity={sparsity} is not a share: give a number from 0 to 1")
    if samples < 1:
        raise UserError(f"samples={samples}: a trace needs at least 1 sample")
    return TraceSettings(
        augmentation=_find(augment.NAMED, augmentation, "augmentation"),
        augmentation_name=_name(augmentation),
        sample_count=samples,
        pruner=find_pruner(pruner) if isinstance(pruner, str) else pruner,
        pruner_name=_name(pruner),
        damping=damping,
        schedule=_find(schedules.NAMED, schedule, "schedule"),
        schedule_name=_name(schedule),
        level=sparsity,
        layer_shares=layers or {},
        calibration=calibration,
        seed=seed,
    )


def _find(known: Mapping[str, Callable[..., Any]], asked: str | Callable[..., Any], what: str) -> Callable[..., Any]:
    """The function of that name, or the function itself."""
    if not isinstance(asked, str):
        return asked
    if asked not in known:
        raise UserError(f"{what}={asked!r} is unknown: give one of {', '.join(known)}, or a function")
    return known[asked]


def _name(asked: str | Callable[..., Any]) -> str:
    return asked if isinstance(asked, str) else getattr(asked, "__name__", repr(asked))
