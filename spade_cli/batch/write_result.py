"""One image to its folder, as `spade run` writes it, or to the reason why not."""

import errno
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from spade_cli.batch import rows
from spade_cli.batch.rows import Row
from spade_cli.batch.storage import LAST, Storage
from spade_cli.errors import SpadeError
from spade_cli.images.download import copy_to_folder, is_url
from spade_cli.images.load import read_image
from spade_cli.progress import Stages, log, log_to_file
from spade_cli.pruning import Trace
from spade_cli.report.run_folder import NAME_LENGTH, slug
from spade_cli.run.explain import Known
from spade_cli.run.pipeline import make_traces, write_run
from spade_cli.run.request import Question, Request, Setting, ask

PER_FOLDER = 1000  # results in one folder: a million in one are slow to list on most file systems
# The next image would fail as well: the disk is full, or cannot be written to.
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass
class Ready:
    """An image that has been read and asked about."""

    number: int
    address: str
    folder: str  # of its result, below the batch's
    question: Question
    copies: Tensor  # uint8 (samples, 3, size, size)
    seconds: dict[str, float]  # so far, by stage
    copied: tempfile.TemporaryDirectory[str]  # what a URL held

    def again(self, request: Request, setting: Setting, folder: str) -> "Ready":
        """The same picture and samples with another question, for a result of its own."""
        mine = filled(request, self.question.request.image, self.address)
        question = ask(mine, setting, self.question.image, rehearse=False, notes=self.question.notes)
        return replace(self, folder=folder, question=question, seconds=dict(self.seconds))


def grey(setting: Setting) -> Tensor:
    """A picture that is nobody's, uint8 (3, size, size): settings are tried on it before any image is read."""
    size = setting.classifier.preprocessing.size
    return torch.full((3, size, size), 128, dtype=torch.uint8)


def folder_of(number: int, address: str) -> str:
    """Where an image's result is kept: numbers keep equal names apart.

    >>> folder_of(12345, "s3://photographs/dogs/my dog.jpg")
    'images/0012/012345-my-dog'
    """
    name = slug(PurePosixPath(address.replace("\\", "/")).stem[:NAME_LENGTH])
    return f"images/{number // PER_FOLDER:04d}/{number:06d}-{name}"


def finished(storage: Storage, number: int, address: str, folder: str, job: Mapping[str, Any]) -> Row | None:
    """The row of a result that is there already, from a worker that did not come to tell."""
    if not storage.has(f"{folder}/{LAST}"):
        return None
    return rows.done(number, address, folder, json.loads(storage.read(f"{folder}/{LAST}")), job)


def read(request: Request, setting: Setting, number: int, address: str, folder: str) -> Ready:
    """The image, and the question about it. Raises SpadeError for an image that cannot be explained."""
    stages, copied = Stages(), tempfile.TemporaryDirectory(prefix="spade-")  # gone with what this returns
    with stages.stage("load"):
        path = copy_to_folder(address, Path(copied.name))
        image, notes = read_image(path, address)
        question = ask(filled(request, path, address), setting, image, rehearse=False, notes=notes)
    with stages.stage("augment"):
        copies = request.augmentation(question.image, request.samples, setting.classifier.preprocessing, request.seed)
    return Ready(number, address, folder, question, copies, stages.seconds, copied)


def filled(request: Request, path: Path, address: str) -> Request:
    """A request of all images as that of one, whose picture is at `path`."""
    return replace(
        request,
        image=path,
        source=address if is_url(address) else "",
        config=f"image: {json.dumps(address, ensure_ascii=False)}\n{request.config}",
    )


def trace_all(images: list[Ready]) -> list[Trace | Exception]:
    """The traces of several images, made together; where that fails each alone, and its error in its place."""
    try:
        return list(_traces(images))
    except Exception as error:  # whatever happened, it is one image's; which one's is seen when each is alone
        refuse_hopeless(error)
        if len(images) == 1:
            return [error]
        return [one for image in images for one in trace_all([image])]


def _traces(images: list[Ready]) -> list[Trace]:
    first, stages = images[0].question, Stages()
    request = first.request
    traces = make_traces(
        first.classifier,
        [image.copies for image in images],
        first.layers,
        first.shares,
        request.pruner,
        subjects=[image.question.subject for image in images],
        damping=request.damping,
        calibration=request.calibration,
        seed=request.seed,
        stages=stages,
    )
    for image in images:
        image.seconds |= {stage: seconds / len(images) for stage, seconds in stages.seconds.items()}
    return traces


def write(storage: Storage, image: Ready, trace: Trace, known: Known | None = None) -> dict[str, Any]:
    """The image's folder, whole; returns what its summary.json says."""
    stages = Stages.after(image.seconds)
    with storage.result(image.folder) as partial, log_to_file(partial / "run.log"):
        for stage, seconds in image.seconds.items():
            log.info("%s: %.1f s", stage, seconds)
        return write_run(image.question, image.copies, trace, partial, stages, known)


@contextmanager
def kept_apart(number: int, address: str, job: Mapping[str, Any], tell: Callable[[Row], None]) -> Iterator[None]:
    """One image's end is not the batch's: its failure becomes a row."""
    try:
        yield
    except Exception as error:
        refuse_hopeless(error)
        tell(rows.failed(number, address, error, job))


def refuse_hopeless(error: Exception) -> None:
    """Raise SpadeError where every other image would end in the same way."""
    code = getattr(error, "errno", None) or getattr(error.__cause__, "errno", None)
    if code in HOPELESS:
        raise SpadeError(f"{' '.join(str(error).split())}; free some space and go on with resume=") from error
