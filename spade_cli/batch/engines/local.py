"""engine=local: this process, or several of this machine."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

import torch

from spade_cli.batch.batch_request import Task, Work, Worker
from spade_cli.batch.engines import ATTEMPTS, DIED
from spade_cli.batch.table import Row
from spade_cli.errors import SpadeError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CONTEXT = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork


def local(work: Work, worker: Worker, tasks: Iterator[Task], workers: int | None) -> Generator[Row]:
    """One worker is this process itself; several are new processes, each with its network and its GPU."""
    count = workers or count_workers(work.request.device)
    if count == 1:
        for task in tasks:
            yield from worker.do(task)
        return
    yield from _Processes(work, tasks, count).rows()


def count_workers(device: str) -> int:
    """One for each GPU, or else for each core that this process may use."""
    gpus = torch.cuda.device_count()
    if device == "cpu" or (device == "auto" and not gpus):
        return count_cores()
    return max(1, gpus) if device in ("auto", "cuda") else 1


def count_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_gpu(wanted: str, index: int, gpus: int) -> str:
    """The GPUs in turn, where none was named.

    >>> pick_gpu("auto", 5, 4), pick_gpu("cuda:2", 5, 4), pick_gpu("auto", 5, 0)
    ('cuda:1', 'cuda:2', 'auto')
    """
    return f"cuda:{index % gpus}" if wanted in ("auto", "cuda") and gpus else wanted


class _Process:
    """A worker process and its task."""

    def __init__(self, work: Work, index: int, count: int) -> None:
        mine = work.for_worker(pick_gpu(work.request.device, index, torch.cuda.device_count()), 1 / count)
        threads = max(1, min(count_cores() // count, torch.get_num_threads()))
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, mine, threads), daemon=True)
        with _set_environment(dict.fromkeys(THREADS, str(threads))):
            self.process.start()
        theirs.close()  # else this process would not see it close when the worker dies
        self.index = index
        self.opened = False
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # it has died: _listen will see it
            self.connection.send(task)


class _Processes:
    """The worker processes of a batch."""

    def __init__(self, work: Work, tasks: Iterator[Task], count: int) -> None:
        self.work, self.count = work, count
        self.fresh, self.again = tasks, list[Task]()
        self.deaths: dict[int, int] = {}  # image number -> how many workers died of it

    def rows(self) -> Iterator[Row]:
        """Every task's rows as they come. Ends all processes, also after an error."""
        members: dict[Connection, _Process] = {}
        try:
            for index in range(self.count):
                self._start(members, index)
            while members:
                for connection in wait(list(members)):
                    yield from self._listen(members, connection)  # type: ignore[arg-type]
        finally:
            for member in members.values():
                member.process.kill()
                member.process.join()

    def _start(self, members: dict[Connection, _Process], index: int) -> None:
        task = self._next()
        if task is not None:
            member = _Process(self.work, index, self.count)
            members[member.connection] = member
            member.give(task)

    def _next(self) -> Task | None:
        return self.again.pop() if self.again else next(self.fresh, None)

    def _listen(self, members: dict[Connection, _Process], connection: Connection) -> Iterator[Row]:
        member = members[connection]
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            del members[connection]
            yield from self._bury(member)
            self._start(members, member.index)
            return
        if kind == "row":
            yield value
        elif kind == "stop":
            raise value
        elif kind == "opened":
            member.opened = True
        else:
            member.task = self._next()
            if member.task is None:
                del members[connection]
                connection.send(None)
                member.process.join()
            else:
                member.give(member.task)

    def _bury(self, member: _Process) -> Iterator[Row]:
        """Give its images to others, one by one; an image that killed too many workers becomes a row."""
        member.process.join()
        how = f"exit code {member.process.exitcode}"
        if not member.opened:
            raise SpadeError(f"a worker process died ({how}) while it loaded the network; give fewer workers")
        for image in member.task or ():
            self.deaths[image[0]] = self.deaths.get(image[0], 0) + 1
            if self.deaths[image[0]] < ATTEMPTS:
                self.again.append((image,))
            else:
                yield from self.work.fail((image,), DIED.format(times=ATTEMPTS, how=how))


@contextlib.contextmanager
def _set_environment(values: dict[str, str]) -> Iterator[None]:
    """Variables for a process that starts within the block: numerical libraries read them when they load."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, work: Work, threads: int) -> None:
    """A worker process: tasks come in, rows go out, until there are no more tasks or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError):
        _report_stop(connection, lambda: _work_on(connection, work.open()))


def _work_on(connection: Connection, worker: Worker) -> None:
    connection.send(("opened", None))
    while (task := connection.recv()) is not None:
        for row in worker.do(task):
            connection.send(("row", row))
        connection.send(("done", None))


def _report_stop(connection: Connection, do: Callable[[], Any]) -> None:
    """Send the parent the error that ends the whole batch."""
    try:
        do()
    except SpadeError as error:
        connection.send(("stop", error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
