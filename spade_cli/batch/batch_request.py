"""The request of a batch or a sweep, and what an engine needs of its workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from spade_cli.batch.table import Row
from spade_cli.run.request import RunRequest

Task = tuple[tuple[int, str], ...]  # numbers and addresses of images that a worker gets at a time
TOGETHER = 8  # images at a time: more gain little (docs/scale.md) and need more memory


class Worker(Protocol):
    """A process with the network loaded."""

    def do(self, task: Task) -> Iterator[Row]:
        """The rows of these images, each as soon as its result is there."""

    def networks(self) -> dict[str, str | None]:
        """Name and SHA-256 of what it loaded."""


class Work(Protocol):
    """What to do to every image; can be sent to another process."""

    @property
    def request(self) -> RunRequest:
        """Settings that all images share."""

    def open(self) -> Worker:
        """Load the network, and rehearse. Raises UserError for settings that make no sense."""

    def fail(self, task: Task, reason: str) -> list[Row]:
        """The rows of images whose worker died of them."""

    def for_worker(self, device: str, share: float) -> Work:
        """The same for one of several workers: on this device, in this share of the memory."""


Engine = Callable[..., Generator[Row]]  # (work, worker, tasks, workers) -> rows, in any order


@dataclass(frozen=True)
class BatchRequest:
    """What `spade batch` or `spade sweep` was asked for."""

    images: str  # a folder, a pattern, a list or one picture; paths or URLs
    out: str  # a folder or a URL
    work: Work
    engine: Engine
    workers: int | None = 1  # None: as many as the machine has room for
    strict: bool = False  # stop at the first failure
    retry: bool = False  # do again what failed before
    kind: str = "batch"  # or sweep
    table: str = "index.csv"
    varied: tuple[str, ...] = ()  # what a sweep varies
    jobs: int = 1  # combinations of a sweep
    figure: Callable[[Callable[[], Iterable[Row]], Path, int], None] | None = None  # (rows, path, images): draws them
    command: str = ""  # the command line, for the record
    arguments: tuple[str, ...] = ()  # the same as words, to resume with
    settings: Mapping[str, Any] = field(default_factory=dict)  # all that the numbers depend on


def bundle_images(images: Iterable[tuple[int, str]], size: int) -> Iterator[Task]:
    """Images in bundles of `size`, read as they are needed."""
    bundle: list[tuple[int, str]] = []
    for image in images:
        bundle.append(image)
        if len(bundle) == size:
            yield tuple(bundle)
            bundle = []
    if bundle:
        yield tuple(bundle)
