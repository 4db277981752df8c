"""engine=slurm: jobs of a Slurm cluster, sent by submitit; what a job leaves undone, another one does."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from spade_cli.batch.batch_request import Task, Work, Worker
from spade_cli.batch.engines import ATTEMPTS, DIED
from spade_cli.batch.table import Row
from spade_cli.errors import SpadeError, UserError

LOGS = "slurm"  # folder of the jobs' own logs, where the command was given
PAUSE = {"local": 0.5, "slurm": 10.0}  # seconds between two looks at the queue; Slurm's accounting is slow
AT_A_TIME = 16  # jobs, where workers=auto


def slurm(
    work: Work,
    worker: Worker,
    tasks: Iterator[Task],
    workers: int | None,
    *,
    cluster: str = "slurm",
    images: int = 100,
    minutes: int = 240,
    cpus: int = 4,
    gpus: int = 0,
    memory: float = 16.0,
    partition: str = "",
) -> Generator[Row]:
    """`workers` jobs at a time, each with its share of the images.

    Images and results must be where every machine finds them: a shared file system or URLs.
    """
    executor = _executor(cluster)
    settings: dict[str, Any] = {"timeout_min": minutes, "name": "spade"}
    if cluster == "slurm":
        settings |= {"cpus_per_task": cpus, "gpus_per_node": gpus, "mem_gb": memory}
        settings |= {"slurm_partition": partition} if partition else {}
    executor.update_parameters(**settings)
    yield from _Jobs(executor, work, _regroup(tasks, images), workers or AT_A_TIME, cpus, PAUSE[cluster]).rows()


def _executor(cluster: str) -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError("engine=slurm needs submitit: pip install 'spade-cli[slurm]'") from None
    if cluster not in PAUSE:
        raise UserError(f"engine.cluster={cluster} is unknown; there are slurm and local")
    try:
        return submitit.AutoExecutor(folder=Path(LOGS, "%j"), cluster=cluster)
    except RuntimeError as error:
        raise UserError(f"engine=slurm: {' '.join(str(error).split())}; engine.cluster=local needs no Slurm") from None


def _regroup(tasks: Iterator[Task], images: int) -> Iterator[Task]:
    bundle: list[tuple[int, str]] = []
    for task in tasks:
        bundle += task
        if len(bundle) >= images:
            yield tuple(bundle)
            bundle = []
    if bundle:
        yield tuple(bundle)


def job(packed: bytes, task: Task, threads: int, path: list[str]) -> tuple[list[Row], str]:
    """What one job does: its rows, and the error that ends the whole batch.

    The work comes packed: it may name functions of the user's own, which are found once `path` is known.
    """
    sys.path += [entry for entry in path if entry not in sys.path]
    import torch

    torch.set_num_threads(threads)
    rows: list[Row] = []
    try:
        work: Work = pickle.loads(packed)
        for row in work.open().do(task):
            rows.append(row)
    except SpadeError as error:
        return rows, str(error)
    return rows, ""


class _Jobs:
    """The jobs of one batch."""

    def __init__(
        self, executor: Any, work: Work, tasks: Iterator[Task], count: int, threads: int, pause: float
    ) -> None:
        self.executor, self.work, self.fresh, self.count = executor, work, tasks, count
        self.threads, self.pause = threads, pause
        self.again: list[Task] = []
        self.deaths: dict[int, int] = {}  # image number -> jobs that ended without it
        self.sent: list[tuple[Any, Task]] = []

    def rows(self) -> Generator[Row]:
        """Every job's rows when it ends. Cancels what is left in the queue."""
        try:
            while self._send() or self.sent:
                ended = [one for one in self.sent if one[0].done()]
                if not ended:
                    time.sleep(self.pause)
                for one in ended:
                    self.sent.remove(one)
                    yield from self._take(*one)
        finally:
            for sent, _ in self.sent:
                with contextlib.suppress(Exception):  # it may have ended by itself
                    sent.cancel(check=False)

    def _send(self) -> bool:
        """Fill the queue; returns whether a job was sent."""
        before = len(self.sent)
        while len(self.sent) < self.count:
            task = self.again.pop() if self.again else next(self.fresh, None)
            if task is None:
                break
            path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 (entries are text)
            self.sent.append((self.executor.submit(job, pickle.dumps(self.work), task, self.threads, path), task))
        return len(self.sent) > before

    def _take(self, sent: Any, task: Task) -> Generator[Row]:
        import submitit

        try:
            rows, stop = sent.result()
        except submitit.core.utils.UncompletedJobError as error:
            yield from self._bury(task, f"{error}".strip().splitlines()[0])
            return
        yield from rows
        if stop:
            raise SpadeError(stop)

    def _bury(self, task: Task, how: str) -> Generator[Row]:
        """Send its images again in two halves, so that an image that kills ends up alone."""
        left = []
        for image in task:
            self.deaths[image[0]] = self.deaths.get(image[0], 0) + 1
            if len(task) == 1 and self.deaths[image[0]] >= ATTEMPTS:
                yield from self.work.fail((image,), DIED.format(times=self.deaths[image[0]], how=how))
            else:
                left.append(image)
        half = (len(left) + 1) // 2
        self.again += [tuple(part) for part in (left[half:], left[:half]) if part]
