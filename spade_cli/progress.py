"""Progress of a run: bars with the time left on a terminal, plain lines elsewhere, seconds by stage, and the log."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

log = logging.getLogger("spade")


class Stages:
    """The stages of a run: their progress and their seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(quiet=True)
        self.seconds: dict[str, float] = {}
        self.started = time.perf_counter()

    @classmethod
    def after(cls, seconds: Mapping[str, float]) -> "Stages":
        """Stages that continue from the seconds of work done before, elsewhere or for several images at once."""
        stages = cls()
        stages.seconds = dict(seconds)
        stages.started -= sum(seconds.values())
        return stages

    def total(self) -> dict[str, float]:
        """Seconds by stage, and under "total" the seconds since the start."""
        return {**self.seconds, "total": time.perf_counter() - self.started}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Time a stage; yields a function `advance(steps)` that moves its bar, which has `total` steps."""
        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        started = time.perf_counter()
        # The bar is only for a terminal; elsewhere (a pipe, a log) one plain line is printed at the end of the stage.
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(name, total=total)
            yield lambda steps: progress.advance(task, steps)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        log.info("%s: %.1f s", name, self.seconds[name])
        self.console.print(f"{name:<14} {self.seconds[name]:6.1f} s", highlight=False)


class _LogFile(logging.FileHandler):
    """A log that cannot be written ends what it is the log of: its other files could not be written either."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's own name)
        raise  # logging calls this where it has caught an error, and would print its traceback


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Inside the `with`, all that spade logs and every Python warning goes into this file."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [log, logging.getLogger("py.warnings")]
    levels = [logger.level for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()


def count_percents(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Turn (step, steps) into whole percents: the bar's total is settled before the number of steps is known."""
    shown = 0

    def on_step(step: int, steps: int) -> None:
        nonlocal shown
        percent = 100 * step // steps
        advance(percent - shown)
        shown = percent

    return on_step
