"""What one process does with an image of a sweep: image -> samples -> hessians, once -> a trace and a folder a job."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from spade_cli.batch import write_result
from spade_cli.batch.batch_request import Task
from spade_cli.batch.explain_images import fit_request, rehearse
from spade_cli.batch.quality import Masks
from spade_cli.batch.storage import open_storage
from spade_cli.batch.sweep_picture import sweep_picture
from spade_cli.batch.table import Item, Row
from spade_cli.batch.write_result import OpenImage
from spade_cli.devices import full_precision
from spade_cli.models import Classifier
from spade_cli.progress import Stages
from spade_cli.pruning import Trace
from spade_cli.report.pictures import picture
from spade_cli.run.calibrate import calibrate, find_store, split_passes
from spade_cli.run.explain import DenseResults
from spade_cli.run.make_trace import CalibratedImage, make_trace
from spade_cli.run.request import RunPlan, RunRequest

PICTURE = "sweep.png"


@dataclass(frozen=True)
class Job:
    """One combination of a sweep's settings."""

    number: int
    settings: Mapping[str, Any]  # "pruner.sparsity": 0.8
    name: str  # of its folder
    request: RunRequest  # `image` is filled in for each
    network: str  # jobs of the same text share the network,
    statistics: str  # the samples and the statistics,
    explanations: str  # and what is made of the dense network

    def item(self, number: int, address: str) -> Item:
        """What its row of an image is about."""
        return Item(number, address, self.number, dict(self.settings))


@dataclass(frozen=True)
class SweepWork:
    """Explain every image once for each job."""

    jobs: tuple[Job, ...]
    out: str
    masks: str | None  # folder whose labels.json says where the evidence lies

    @property
    def request(self) -> RunRequest:
        """Settings that all jobs share are read from the first."""
        return self.jobs[0].request

    def open(self) -> "SweepWorker":
        """Load the networks, and rehearse every job on a grey picture."""
        return SweepWorker(self)

    def fail(self, task: Task, reason: str) -> list[Row]:
        """The rows of images whose worker died of them."""
        return [Row.of_failure(job.item(number, address), reason) for number, address in task for job in self.jobs]

    def for_worker(self, device: str, share: float) -> "SweepWork":
        """The same for one of several workers."""
        return replace(
            self, jobs=tuple(replace(job, request=fit_request(job.request, device, share)) for job in self.jobs)
        )


class SweepWorker:
    """A process at work, with the networks loaded."""

    def __init__(self, work: SweepWork) -> None:
        self.jobs, self.storage = work.jobs, open_storage(work.out)
        self.classifiers: dict[str, Classifier] = {}
        self.plans = [self._rehearse(job) for job in self.jobs]
        self.masks = None if work.masks is None else Masks(Path(work.masks), self.plans[0].classifier)

    def _rehearse(self, job: Job) -> RunPlan:
        plan = rehearse(job.request, self.classifiers.get(job.network))
        self.classifiers[job.network] = plan.classifier
        return plan

    def networks(self) -> dict[str, str | None]:
        """Names and SHA-256 of the networks."""
        return {one.name: one.sha256 for one in self.classifiers.values()}

    def do(self, task: Task) -> Iterator[Row]:
        """The rows of these images, each as soon as its result is there, the last one when the picture is drawn."""
        for number, address in task:
            held: Row | None = None
            with full_precision():
                for row in self._image(number, address):
                    if held is not None:
                        yield held
                    held = row
                if held is not None:
                    yield self._draw_picture(number, address, held)

    def _image(self, number: int, address: str) -> Iterator[Row]:
        left = []
        for job in self.jobs:
            folder = self._folder(number, address, job)
            row = write_result.find_row(self.storage, job.item(number, address), folder)
            if row is None:
                left.append(job)
            else:
                yield self._measure(row)
        for _, jobs in groupby(sorted(left, key=lambda job: job.statistics), key=lambda job: job.statistics):
            yield from self._share(number, address, list(jobs))

    def _share(self, number: int, address: str, jobs: Sequence[Job]) -> Iterator[Row]:
        """Jobs that share the samples and the statistics."""
        found: list[Row] = []
        shared: _Shared | None = None
        for job in jobs:
            item = job.item(number, address)
            with write_result.catch_failure(item, found.append):
                plan, folder = self.plans[job.number], self._folder(number, address, job)
                if shared is None:
                    first = write_result.open_image(job.request, plan, item, folder)
                    shared = _Shared(first, [self.plans[one.number] for one in jobs])
                image = shared.first.ask(job.request, plan, item, folder)
                trace = shared.trace(image)
                dense_results = shared.dense_results.setdefault(job.explanations, {})
                found.append(self._measure(write_result.write_result(self.storage, image, trace, dense_results)))
            yield found.pop()
        if shared is not None:
            shared.close()

    def _folder(self, number: int, address: str, job: Job) -> str:
        return f"{write_result.name_folder(number, address)}/{job.number:02d}-{job.name}"

    def _measure(self, row: Row) -> Row:
        """The row with the maps' quality, where it is known where the evidence lies."""
        return row if self.masks is None else replace(row, quality=self.masks.measure(self.storage, row))

    def _draw_picture(self, number: int, address: str, row: Row) -> Row:
        """The image's picture, from the files of its results; the last row says where that fails."""
        folder = write_result.name_folder(number, address)
        try:
            job = self.jobs[row.item.job or 0]
            request = replace(job.request, trace=replace(job.request.trace, sample_count=1))
            image = write_result.open_image(request, self.plans[job.number], row.item, folder)
            found = {
                job.number: self._folder(number, address, job)
                for job in self.jobs
                if self.storage.has(f"{self._folder(number, address, job)}/summary.json")
            }
            if found:
                settings = {job.number: job.settings for job in self.jobs}
                sheet = sweep_picture(self.storage, address, picture(image.plan.view[0].cpu()), settings, found)
                self.storage.write(f"{folder}/{PICTURE}", lambda path: sheet.save(path, format="PNG"))
            return row
        except Exception as error:
            write_result.stop_if_hopeless(error)
            return replace(row, reason=f"{PICTURE} was not drawn: {error}") if row.result else row


class _Shared:
    """An image's samples, its statistics for all jobs, and what was made of the dense network."""

    def __init__(self, first: OpenImage, plans: Sequence[RunPlan]) -> None:
        self.dense_results = dict[str, DenseResults]()
        stages = Stages()
        self.kept: tempfile.TemporaryDirectory[str] | None = None
        request, classifier = first.plan.request, first.plan.classifier
        wanted = {name for plan in plans for name in plan.shares.layers}
        names = [layer.name for layer in first.plan.run_plan.layers if layer.name in wanted]
        self.calibration = request.trace.calibration
        parts = split_passes(classifier.model, names, self.calibration.memory)
        if len(parts) > 1 and self.calibration.save is None:
            self.kept = tempfile.TemporaryDirectory(prefix="spade-")  # they do not fit into memory together
            self.calibration = replace(self.calibration, save=Path(self.kept.name))
        store = find_store(classifier, first.samples, self.calibration, request.seed)
        with stages.stage("calibrate"):
            for part in parts:
                found = calibrate(classifier, first.samples, part, self.calibration, request.seed, store)
        self.statistics = found if store is None else None
        self.first = replace(first, seconds=first.seconds | {"calibrate": stages.seconds["calibrate"] / len(plans)})

    def trace(self, image: OpenImage) -> Trace:
        """One job's trace: from the statistics in memory, or from where they are kept."""
        image_plan, stages = image.plan, Stages()
        if self.statistics is None:
            settings = replace(image_plan.request.trace, calibration=self.calibration)
            kept = replace(image, plan=replace(image_plan, request=replace(image_plan.request, trace=settings)))
            (made,) = write_result.trace_images([kept])
            if isinstance(made, Exception):
                raise made
            return made
        plan = image_plan.run_plan
        own = CalibratedImage(plan.classifier, plan.layers, image.samples, image_plan.answer, self.statistics)
        trace = make_trace(own, plan.shares, image_plan.request.trace, stages)
        image.seconds |= stages.seconds
        return trace

    def close(self) -> None:
        """Throw away what was kept for the jobs."""
        self.first.copied.cleanup()
        if self.kept is not None:
            self.kept.cleanup()
