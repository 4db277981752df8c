"""The order of a batch: list -> folder -> workers -> rows -> table."""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from spade_cli.batch.batch_folder import LIST, BatchFolder
from spade_cli.batch.batch_request import TOGETHER, BatchRequest, Worker, bundle_images
from spade_cli.batch.table import JSONL, Row, Table
from spade_cli.errors import ImagesFailedError, SpadeError, UserError
from spade_cli.images.download import is_url
from spade_cli.images.find import find_images
from spade_cli.progress import Stages
from spade_cli.report import summary
from spade_cli.report.gallery_page import write_gallery
from spade_cli.version import __version__

FIGURE = "curves.png"
GALLERY_MOST = 10_000  # results in one page; a browser is slow with more, and all rows are in memory
EVERY = 10.0  # seconds between two lines of progress where there is no terminal
PUBLISH = 60.0  # seconds between two uploads of the table, at least; uploads take a twentieth of the time at most


def batch(request: BatchRequest, console: Console | None = None) -> str:
    """Explain every image and write the table; returns the folder. Resumes one that was stopped.

    Raises UserError before anything is written where the request cannot be met, ImagesFailedError at the end where
    images failed; their rows say why.
    """
    stages = Stages(console)
    folder = BatchFolder(request.out, request.kind)
    folder.check()
    if request.workers != 1 and any(place.startswith("memory:") for place in (request.images, request.out)):
        raise UserError("memory:// is the memory of one process: leave workers=1, or give another URL")
    images = find_images(request.images, request.out) if not folder.has_begun() else iter(())
    with stages.stage("load"):
        worker = request.work.open()
    try:
        with folder.lock() as here:
            count = folder.begin(identity(request, worker), about(request, worker), images)
            folder.fetch(here, (LIST, JSONL))
            failures = _explain(request, worker, folder, here, count, stages)
    except SpadeError:
        folder.forget()
        raise
    if failures:
        raise ImagesFailedError(failures)
    return request.out


def _explain(request: BatchRequest, worker: Worker, folder: BatchFolder, here: Path, count: int, stages: Stages) -> str:
    """Make every row that is missing. Returns the message about failures, "" where there are none."""
    table = Table(here, request.table, count, request.varied, request.jobs)
    table.load(request.retry or request.strict)
    total = count * request.jobs
    say = stages.console.print
    say(Text(f"folder         {request.out} (spade {request.kind} resume={request.out} resumes it)"))
    if table.count:
        say(f"{table.count} of {total} results are there already")
    failed: Row | None = None
    with ExitStack() as stack, table, stages.stage("explain", total=total - table.count) as advance:
        clock = _Clock(table, total, stages.console)
        rows = stack.enter_context(closing(_rows(request, worker, folder, here, table)))
        for row in rows:
            if table.has(row.item):
                continue  # it came twice: its worker died before it said that it was done
            table.append(row)
            advance(1)
            clock.report(row, lambda: folder.publish(here, (JSONL, request.table)))
            failed = failed or (None if row.result else row)
            if request.strict and failed:
                break
    if request.figure is not None and table.count > table.failures:
        request.figure(table.rows, here / FIGURE, count)
    folder.publish(here, (JSONL, request.table, *([FIGURE] if (here / FIGURE).is_file() else [])))
    if table.count > GALLERY_MOST:
        say(f"no gallery: it shows {GALLERY_MOST} results at most")
    elif not is_url(request.out):
        with stages.stage("gallery"):
            write_gallery(Path(request.out))
    done = table.count - table.failures
    say(Text(f"{done} of {total} results done, {table.failures} failed: {request.out}/{request.table}"))
    return _sum_up(request, table, total, failed)


def _rows(request: BatchRequest, worker: Worker, folder: BatchFolder, here: Path, table: Table) -> Generator[Row]:
    left = (image for image in folder.images(here) if not table.is_complete(image[0]))
    workers = request.workers or 1
    # Small enough for all workers to end at about the same time, large enough to be solved together.
    size = max(1, min(TOGETHER, (len(table.starts) - table.count) // (table.jobs * workers * 4)))
    tasks = bundle_images(left, size if request.workers != 1 else TOGETHER)
    return request.engine(request.work, worker, tasks, request.workers)


def _sum_up(request: BatchRequest, table: Table, total: int, failed: Row | None) -> str:
    if not table.failures:
        return ""
    first = failed or next(row for row in table.rows() if not row.result)
    again = f"spade {request.kind} resume={request.out}"
    if request.strict and table.count < total:
        return f"{request.kind}.strict: stopped at {first.item.image}: {first.reason}; {again} resumes it"
    return (
        f"{table.failures} of {total} results failed, first {first.item.image}: {first.reason}; "
        f"{request.out}/{request.table} lists them, {again} batch.retry=true does them again"
    )


class _Clock:
    """Prints progress where no bar can be shown, and says when to upload the table."""

    def __init__(self, table: Table, total: int, console: Console) -> None:
        self.table, self.total, self.console = table, total, console
        self.before, self.started = table.count, time.perf_counter()
        self.printed = self.published = self.started
        self.pause = PUBLISH
        self.done = 0

    def report(self, row: Row, publish: Callable[[], None]) -> None:
        self.done += 1
        now = time.perf_counter()
        if not row.result:
            self.console.print(Text(f"failed         {row.item.image}: {row.reason}", style="yellow"))
        if not self.console.is_terminal and (now - self.printed >= EVERY or self.done == 1):
            self.printed = now
            left = (now - self.started) / self.done * (self.total - self.before - self.done) / 60
            self.console.print(
                Text(f"{self.before + self.done}/{self.total} {row.item.image}  {left:.1f} min left"), highlight=False
            )
        if now - self.published >= self.pause:
            publish()
            self.published = time.perf_counter()
            self.pause = max(PUBLISH, 20 * (self.published - now))


def identity(request: BatchRequest, worker: Worker) -> dict[str, Any]:
    """All that the results depend on."""
    return {
        "versions": {"spade": __version__, "torch": torch.__version__},
        **request.settings,
        "images": request.images if is_url(request.images) else str(Path(request.images).resolve()),
        "networks": worker.networks(),
    }


def about(request: BatchRequest, worker: Worker) -> dict[str, Any]:
    """What the batch is, for the record."""
    return {
        "command": request.command,
        "arguments": list(request.arguments),
        "folder": str(Path.cwd()),
        "versions": summary.versions(),
        "options": list(request.varied),
        "jobs": request.jobs,
    }
