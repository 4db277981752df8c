"""engine=ray: actors on a Ray cluster, each with its network; one that dies is replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from typing import Any

from spade_cli.batch.batch_request import Task, Work, Worker
from spade_cli.batch.engines import ATTEMPTS, DIED
from spade_cli.batch.table import Row
from spade_cli.errors import SpadeError, UserError

QUIET = {"RAY_DEDUP_LOGS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def ray(
    work: Work,
    worker: Worker,
    tasks: Iterator[Task],
    workers: int | None,
    *,
    address: str = "local",
    cpus: int = 1,
    gpus: float = 0.0,
    memory: float = 0.0,
) -> Generator[Row]:
    """`workers` actors (auto: as many as the cluster has room for), each with `cpus`, `gpus` and gigabytes of memory.

    Images and results must be where every machine finds them: a shared file system or URLs.
    """
    library = _library()
    started = _connect(library, address)
    try:
        have = library.cluster_resources()
        room = [have.get("CPU", 1) // cpus] + ([have.get("GPU", 0) // gpus] if gpus else [])
        count = workers or max(1, int(min(room)))
        options = {"num_cpus": cpus, "num_gpus": gpus, "memory": int(memory * 1e9) or None, "max_restarts": 0}
        share = 1 / count if address == "local" else 1.0
        mine = (
            work.for_worker("auto" if gpus else "cpu", share)
            if work.request.device == "auto"
            else work.for_worker(work.request.device, share)
        )
        yield from _Actors(library, mine, tasks, count, options, cpus).rows()
    finally:
        if started:
            library.shutdown()


def _library() -> Any:
    try:
        import ray as library
    except ImportError:
        raise UserError("engine=ray needs Ray: pip install 'spade-cli[ray]'") from None
    return library


def _connect(library: Any, address: str) -> bool:
    """Whether this process connected: a user's own connection stays."""
    if library.is_initialized():
        return False
    # Workers import what this process can import: factories and pruners of the user's own.
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **QUIET}
    try:
        library.init(
            address=None if address == "local" else address,
            runtime_env={"env_vars": environment},
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"engine.address={address}: no Ray cluster answers ({reason}); give local, auto or HOST:PORT"
        ) from None
    return True


class _Actor:
    """What an actor does; a plain class, since Ray may not be installed."""

    def __init__(self, work: Work, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.worker = work.open()

    def do(self, task: Task) -> tuple[list[Row], SpadeError | None]:
        """The rows of these images, and the error that ends the whole batch."""
        rows: list[Row] = []
        try:
            for row in self.worker.do(task):
                rows.append(row)
        except SpadeError as error:
            return rows, error
        return rows, None


class _Actors:
    """The workers of one batch and their tasks."""

    def __init__(
        self, library: Any, work: Work, tasks: Iterator[Task], count: int, options: dict[str, Any], threads: int
    ) -> None:
        self.ray, self.work, self.fresh, self.count = library, work, tasks, count
        self.make = library.remote(_Actor).options(**options)
        self.shared, self.threads = library.put(work), threads
        self.again: list[Task] = []
        self.deaths: dict[int, int] = {}  # image number -> how many workers died of it
        self.busy: dict[Any, tuple[Any, Task]] = {}  # result to come -> actor and task

    def rows(self) -> Generator[Row]:
        """Every task's rows as they come. Ends all actors."""
        try:
            for _ in range(self.count):
                self._start()
            while self.busy:
                (first, *_), _ = self.ray.wait(list(self.busy), num_returns=1)
                yield from self._take(first)
        finally:
            for actor, _ in self.busy.values():
                self.ray.kill(actor)

    def _next(self) -> Task | None:
        return self.again.pop() if self.again else next(self.fresh, None)

    def _start(self, actor: Any = None) -> None:
        """Give an actor, or a new one, the next task; an actor without a task ends."""
        task = self._next()
        if task is not None:
            actor = actor or self.make.remote(self.shared, self.threads)
            self.busy[actor.do.remote(task)] = (actor, task)
        elif actor is not None:
            self.ray.kill(actor)

    def _take(self, first: Any) -> Generator[Row]:
        actor, task = self.busy.pop(first)
        try:
            rows, error = self.ray.get(first)
        except self.ray.exceptions.RayActorError as death:
            yield from self._bury(task, death)
            self._start()
            return
        yield from rows
        if error is not None:
            raise error
        self._start(actor)

    def _bury(self, task: Task, death: BaseException) -> Generator[Row]:
        """Give its images to others, one by one; an image that killed too many workers becomes a row."""
        if isinstance(death.__cause__, SpadeError):
            raise death.__cause__
        how = " ".join(str(death).split())[:200]
        for image in task:
            self.deaths[image[0]] = self.deaths.get(image[0], 0) + 1
            if self.deaths[image[0]] < ATTEMPTS:
                self.again.append((image,))
            else:
                yield from self.work.fail((image,), DIED.format(times=ATTEMPTS, how=how))
