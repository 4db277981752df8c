"""One image -> its folder, as `spade run` writes it, or the reason why it failed."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from spade_cli.batch.storage import LAST, Storage
from spade_cli.batch.table import Item, Result, Row
from spade_cli.errors import SpadeError, StoreError, advise_on_room, error_line
from spade_cli.images.download import copy_to_folder, is_url
from spade_cli.images.load import read_image
from spade_cli.progress import Stages, log, log_to_file
from spade_cli.pruning import Trace
from spade_cli.report.run_folder import NAME_LENGTH, slug
from spade_cli.report.summary import parse_summary
from spade_cli.run.explain import DenseResults
from spade_cli.run.make_trace import make_traces
from spade_cli.run.pipeline import write_run
from spade_cli.run.request import ImagePlan, RunPlan, RunRequest, plan_image

PER_FOLDER = 1000  # results in one folder: a million in one are slow to list on most file systems


@dataclass
class OpenImage:
    """An image that was read, and its plan."""

    item: Item
    folder: str  # of its result, below the batch's
    plan: ImagePlan
    samples: Tensor  # uint8 (samples, 3, h, w)
    seconds: dict[str, float]  # so far, by stage
    copied: tempfile.TemporaryDirectory[str]  # what a URL held

    def ask(self, request: RunRequest, plan: RunPlan, item: Item, folder: str) -> "OpenImage":
        """Another plan of the same image and samples, for a result of its own."""
        mine = fill_request(request, self.plan.request.image, item.image)
        own = plan_image(mine, plan, self.plan.image, rehearse=False, notes=self.plan.notes)
        return replace(self, item=item, folder=folder, plan=own, seconds=dict(self.seconds))


def grey_image(plan: RunPlan) -> Tensor:
    """A grey picture, uint8 (3, h, w), to try the settings on before any image is read."""
    return torch.full((3, *plan.classifier.preprocessing.sides), 128, dtype=torch.uint8)


def name_folder(number: int, address: str) -> str:
    """The folder of an image's result; the number keeps equal names apart.

    >>> name_folder(12345, "s3://photographs/dogs/my dog.jpg")
    'images/0012/012345-my-dog'
    """
    name = slug(PurePosixPath(address.replace("\\", "/")).stem[:NAME_LENGTH])
    return f"images/{number // PER_FOLDER:04d}/{number:06d}-{name}"


def find_row(storage: Storage, item: Item, folder: str) -> Row | None:
    """The row of a result that is there already: its worker ended before it sent the row."""
    if not storage.has(f"{folder}/{LAST}"):
        return None
    path = f"{folder}/{LAST}"
    return Row(item, folder, result=Result.from_summary(parse_summary(storage.read(path), path)))


def open_image(request: RunRequest, plan: RunPlan, item: Item, folder: str) -> OpenImage:
    """The image and its plan. Raises SpadeError for an image that cannot be explained."""
    stages, copied = Stages(), tempfile.TemporaryDirectory(prefix="spade-")  # deleted with what this returns
    with stages.stage("load"):
        path = copy_to_folder(item.image, Path(copied.name))
        image, notes = read_image(path, item.image)
        image_plan = plan_image(fill_request(request, path, item.image), plan, image, rehearse=False, notes=notes)
    with stages.stage("augment"):
        samples = request.trace.draw_samples(image_plan.image, plan.classifier.preprocessing)
    return OpenImage(item, folder, image_plan, samples, stages.seconds, copied)


def fill_request(request: RunRequest, path: Path, address: str) -> RunRequest:
    """The request that all images share, for one image at `path`."""
    return replace(
        request,
        image=path,
        source=address if is_url(address) else "",
        config=f"image: {json.dumps(address, ensure_ascii=False)}\n{request.config}",
    )


def trace_images(images: list[OpenImage]) -> list[Trace | Exception]:
    """The traces of several images, made together, or one by one where that fails. An error takes its trace's place."""
    try:
        return list(_traces(images))
    except Exception as error:  # one image is to blame; which one shows when each is alone
        stop_if_hopeless(error)
        if len(images) == 1:
            return [error]
        return [one for image in images for one in trace_images([image])]


def _traces(images: list[OpenImage]) -> list[Trace]:
    first, stages = images[0].plan, Stages()
    traces = make_traces(
        first.classifier,
        [image.samples for image in images],
        first.run_plan.layers,
        first.run_plan.shares,
        [image.plan.answer for image in images],
        first.request.trace,
        stages,
    )
    for image in images:
        image.seconds |= {stage: seconds / len(images) for stage, seconds in stages.seconds.items()}
    return traces


def write_result(storage: Storage, image: OpenImage, trace: Trace, dense_results: DenseResults | None = None) -> Row:
    """The image's folder, whole; returns its row."""
    stages = Stages.after(image.seconds)
    with storage.result(image.folder) as partial, log_to_file(partial / "run.log"):
        for stage, seconds in image.seconds.items():
            log.info("%s: %.1f s", stage, seconds)
        summary = write_run(image.plan, image.samples, trace, partial, stages, dense_results)
    return Row(image.item, image.folder, result=Result.from_summary(summary))


@contextmanager
def catch_failure(item: Item, add: Callable[[Row], None]) -> Iterator[None]:
    """A failure of one image does not end the batch: it becomes a row."""
    try:
        yield
    except Exception as error:
        stop_if_hopeless(error)
        add(Row.of_failure(item, error))


def stop_if_hopeless(error: Exception) -> None:
    """Raise SpadeError where every other image would fail in the same way."""
    if isinstance(error, StoreError):
        raise error
    advice = advise_on_room(error)
    if advice is not None:
        raise SpadeError(f"{error_line(error, None)}; {advice} and resume with resume=") from error
