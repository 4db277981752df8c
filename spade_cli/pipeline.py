"""The run, one line per arrow of the paper's figure; the only file that knows the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor, nn

from spade_cli import augment, explaining
from spade_cli.concluding import conclude, headline, tell
from spade_cli.devices import device_of, full_precision
from spade_cli.errors import UserError
from spade_cli.images import as_image
from spade_cli.models import Classifier, wrap
from spade_cli.progress import Stages, logged
from spade_cli.pruning import Layer, Trace, collect, find_layers, prune, pruner_named
from spade_cli.pruning import schedule as schedules
from spade_cli.report import checkpoint, run_folder, summary
from spade_cli.report.overview import overview
from spade_cli.report.pictures import picture
from spade_cli.request import Request, decide

__all__ = ["Request", "run", "trace"]


def run(request: Request, console: Console | None = None) -> Path:
    """image -> samples -> hessians -> trace -> explanations -> report. Returns the finished folder.

    Raises UserError before anything is written where the request cannot be met, and SpadeError where something fails
    later; the folder then vanishes.
    """
    stages = Stages(console)
    with full_precision(), stages.stage("load"):
        question = decide(request)
    classifier, name = question.classifier, request.image.stem
    with full_precision(), run_folder(request.output, name) as folder, logged(folder.partial / "run.log"):
        with stages.stage("augment"):
            copies = request.augmentation(question.image, request.samples, classifier.preprocessing, request.seed)
        samples = Samples(copies, classifier, request.batch_size)
        trace = make_trace(
            samples,
            question.layers,
            question.shares,
            request.pruner,
            damping=request.damping,
            rows_per_column=request.rows_per_column,
            seed=request.seed,
            stages=stages,
        )
        with stages.stage("fidelity", total=len(copies)) as advance:
            trace_logits = collect(trace.model, samples, [], samples=len(copies), on_batch=advance).logits
        networks = {"dense": classifier.model, "trace": trace.model}
        photograph = picture(question.view[0].cpu())
        explanations = [
            explaining.explain(request.saliency, networks, question, photograph, folder.partial, stages),
            explaining.visualize(request.visualize, networks, question, folder.partial, stages),
        ]
        with stages.stage("report"):
            found = conclude(question, trace, trace_logits, explanations)
            pairs = [pair for result in explanations for pair in result.pairs]
            overview(photograph, *headline(question, found), pairs).save(folder.partial / "overview.png")
            checkpoint.save_trace(trace.model.state_dict(), folder.partial / checkpoint.CHECKPOINT)
            (folder.partial / "config.yaml").write_text(request.config, encoding="utf-8")
        found["seconds"] = stages.total()
        summary.write(found, folder.partial / "summary.json")
    tell(found, stages.console)
    return folder.path


def trace(
    model: nn.Module | Classifier,
    image: Any,
    *,
    pruner: str | Callable[..., Tensor] = "sparsegpt",
    sparsity: float = 0.9,
    schedule: str | Callable[..., dict[str, float]] = "late",
    layers: Mapping[str, float] | None = None,
    samples: int = 256,
    augmentation: str | Callable[..., Tensor] = "paper",
    damping: float = 0.01,
    rows_per_column: int | None = 16,
    batch_size: int = 32,
    seed: int = 0,
) -> Trace:
    """The trace of one image: `spade run` without the folder and the pictures.

    `model` is what `load_model` or `wrap` returned, or a bare network (then taken to see 224 x 224 pictures with
    ImageNet's mean and standard deviation); it stays as it is, on its device. `image` is a path, a PIL image or a
    uint8 tensor (3, H, W). `layers` sets shares by dotted name or glob, as `schedule.layers` does. `pruner`, `schedule`
    and `augmentation` are names, as on the command line, or functions. Raises UserError for what cannot be.
    """
    if not 0 <= sparsity <= 1:
        raise UserError(f"sparsity={sparsity} is not a share: give a number from 0 to 1")
    if samples < 1:
        raise UserError(f"samples={samples}: a trace needs at least 1 sample")
    classifier = model if isinstance(model, Classifier) else wrap(model)
    solver = pruner_named(pruner) if isinstance(pruner, str) else pruner
    plan = _named(schedules.NAMED, schedule, "schedule") if isinstance(schedule, str) else schedule
    augmented = _named(augment.NAMED, augmentation, "augmentation") if isinstance(augmentation, str) else augmentation
    found = find_layers(classifier.model)
    shares = schedules.override(found, plan(found, sparsity), layers or {})
    copies = augmented(as_image(image), samples, classifier.preprocessing, seed)
    return make_trace(
        Samples(copies, classifier, batch_size),
        found,
        shares,
        solver,
        damping=damping,
        rows_per_column=rows_per_column,
        seed=seed,
        stages=Stages(),
    )


def make_trace(
    samples: Samples,
    layers: Sequence[Layer],
    shares: Mapping[str, float],
    pruner: Callable[..., Tensor],
    *,
    damping: float,
    rows_per_column: int | None,
    seed: int,
    stages: Stages,
) -> Trace:
    """samples -> hessians -> trace, all choices made."""
    model, count = samples.classifier.model, len(samples.copies)
    wanted = [name for name, share in shares.items() if share > 0]
    with stages.stage("calibrate", total=count) as advance:
        statistics = collect(
            model, samples, wanted, samples=count, rows_per_column=rows_per_column, seed=seed, on_batch=advance
        )
    with stages.stage("prune", total=len(wanted)) as advance:
        return prune(model, layers, shares, statistics, pruner, damping=damping, on_layer=lambda _: advance(1))


@dataclass(frozen=True)
class Samples:
    """The augmented copies as the network wants them: normalised, on its device, in batches, as often as asked."""

    copies: Tensor  # uint8 (samples, 3, size, size)
    classifier: Classifier
    batch_size: int

    def __iter__(self) -> Iterator[Tensor]:
        device = device_of(self.classifier.model)
        for batch in self.copies.split(self.batch_size):
            yield self.classifier.preprocessing.normalise(batch.to(device).float() / 255)


def _named(known: Mapping[str, Callable[..., Any]], name: str, what: str) -> Callable[..., Any]:
    if name not in known:
        raise UserError(f"{what}={name!r} is unknown: give one of {', '.join(known)}, or a function")
    return known[name]
