"""What one process does with the images that it is given: image -> samples -> traces of several -> folders, rows."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from spade_cli.batch import write_result
from spade_cli.batch.batch_request import TOGETHER, Task
from spade_cli.batch.storage import open_storage
from spade_cli.batch.table import Item, Row
from spade_cli.batch.write_result import OpenImage
from spade_cli.devices import full_precision
from spade_cli.models import Classifier
from spade_cli.models.questions import PREDICTED, NothingToCompareError
from spade_cli.pruning import Trace
from spade_cli.pruning.hessian import bytes_of
from spade_cli.pruning.layers import layer_modules
from spade_cli.pruning.solvers.pruner import can
from spade_cli.run.request import RunPlan, RunRequest, plan_image, plan_run


@dataclass(frozen=True)
class BatchWork:
    """Explain every image with the same settings."""

    request: RunRequest  # `image` is filled in for each
    out: str
    together: int | None  # images that are calibrated and solved together; None: as measured

    def open(self) -> "BatchWorker":
        """Load the network, and rehearse on a grey picture."""
        return BatchWorker(self, rehearse(self.request))

    def fail(self, task: Task, reason: str) -> list[Row]:
        """The rows of images whose worker died of them."""
        return [Row.of_failure(Item(number, address), reason) for number, address in task]

    def for_worker(self, device: str, share: float) -> "BatchWork":
        """The same for one of several workers."""
        return replace(self, request=fit_request(self.request, device, share))


def rehearse(request: RunRequest, classifier: Classifier | None = None) -> RunPlan:
    """Load the network and try everything on a grey picture. Raises UserError for settings that make no sense."""
    with full_precision():
        plan = plan_run(request, classifier)
        grey = write_result.grey_image(plan)
        try:
            plan_image(request, plan, grey)
        except NothingToCompareError:  # of the grey picture: others may get another answer
            plan_image(replace(request, target=PREDICTED), plan, grey)
    return plan


def fit_request(request: RunRequest, device: str, share: float) -> RunRequest:
    """A request for one of several workers: on its device, with its share of the memory."""
    calibration = request.trace.calibration
    calibration = replace(calibration, memory=calibration.memory * share)
    return replace(request, device=device, trace=replace(request.trace, calibration=calibration))


class BatchWorker:
    """A process at work, with the network loaded."""

    def __init__(self, work: BatchWork, plan: RunPlan) -> None:
        self.request, self.plan = work.request, plan
        self.storage = open_storage(work.out)
        self.size = Size(work.together, work.request, plan)

    def networks(self) -> dict[str, str | None]:
        """Name and SHA-256 of the network."""
        return {self.plan.classifier.name: self.plan.classifier.sha256}

    def do(self, task: Task) -> Iterator[Row]:
        """The rows of these images, each as soon as its result is there."""
        left = list(task)
        while left:
            size = self.size.next()
            with full_precision():
                yield from self._explain(left[:size])
            left = left[size:]

    def _explain(self, images: Sequence[tuple[int, str]]) -> Iterator[Row]:
        ready: list[OpenImage] = []
        for number, address in images:
            rows: list[Row] = []
            item, folder = Item(number, address), write_result.name_folder(number, address)
            with write_result.catch_failure(item, rows.append):
                row = write_result.find_row(self.storage, item, folder)
                if row is None:
                    ready.append(write_result.open_image(self.request, self.plan, item, folder))
                else:
                    rows.append(row)
            yield from rows
        started = time.perf_counter()
        traces = write_result.trace_images(ready) if ready else []
        self.size.note_seconds(len(ready), time.perf_counter() - started)
        for image, trace in zip(ready, traces, strict=True):
            yield self._finish(image, trace)

    def _finish(self, image: OpenImage, trace: Trace | Exception) -> Row:
        rows: list[Row] = []
        with write_result.catch_failure(image.item, rows.append):
            if isinstance(trace, Exception):
                raise trace
            rows.append(write_result.write_result(self.storage, image, trace))
        image.copied.cleanup()
        return rows[0]


class Size:
    """How many images are calibrated and solved together: as many as asked for, or what proves quicker.

    The traces are the same either way, so that trying costs nothing but a look at the clock.
    """

    def __init__(self, together: int | None, request: RunRequest, plan: RunPlan) -> None:
        self.together = together or _largest(request, plan)
        self.tried: dict[int, float] = {}  # size -> seconds an image
        self.warm = False
        self.fixed = together is not None or self.together == 1

    def next(self) -> int:
        """The size of the next group."""
        if self.fixed:
            return self.together
        if not self.warm or 1 not in self.tried:
            return 1
        if self.together not in self.tried:
            return self.together
        return min(self.tried, key=lambda size: self.tried[size])

    def note_seconds(self, size: int, seconds: float) -> None:
        """What a group's traces cost; the first of all warms up, and does not count."""
        if size in (1, self.together) and self.warm:
            self.tried.setdefault(size, seconds / size)
        self.warm = self.warm or size > 0


def _largest(request: RunRequest, plan: RunPlan) -> int:
    """As many as fit into one pass of the network, where the pruner can solve several."""
    if plan.shares.is_searched or not can(request.trace.pruner, "stacked"):  # each image has shares of its own
        return 1
    modules = layer_modules(plan.classifier.model)
    needed = sum(bytes_of(modules[name]) for name in plan.shares.layers)
    return max(1, int(min(TOGETHER, request.trace.calibration.memory / needed))) if needed else 1
