"""How much a command says, and in what form: --quiet, --plain and --json."""

import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spade_cli.cli import own_stdout

if TYPE_CHECKING:
    from rich.console import Console

QUIET, PLAIN, JSON = ("-q", "--quiet"), ("--plain",), ("--json",)
VIEWS = (*QUIET, *PLAIN, *JSON)
MEANINGS = (
    ("-q, --quiet", "no progress, findings and hints on stderr, errors only"),
    ("--plain", "plain lines without bars and colours, on a terminal as well"),
    ("--json", "the answer on stdout as JSON, one object a line"),
    ("threads=N", "processor threads at most, of each worker of a batch; default: one for each core"),
)

_hints: list[str] = []  # of the command that is going on


def is_quiet(views: Collection[str]) -> bool:
    """Whether only errors are to be told."""
    return any(flag in views for flag in QUIET)


def is_plain(views: Collection[str]) -> bool:
    """Whether lines are to be plain, on a terminal as well."""
    return any(flag in views for flag in PLAIN)


def as_json(views: Collection[str]) -> bool:
    """Whether the answer is to be JSON."""
    return any(flag in views for flag in JSON)


def console(views: Collection[str]) -> "Console":
    """Where progress and findings go: stderr, as a person sees it, as plain lines, or nowhere."""
    from rich.console import Console

    # Lines keep their length in a pipe or a log: a path that is broken in two can't be copied.
    return Console(
        stderr=True,
        soft_wrap=True,
        highlight=False,
        quiet=is_quiet(views),
        force_terminal=False if is_plain(views) else None,
        no_color=True if is_plain(views) else None,
    )


def hint(text: str) -> None:
    """What a person may like to know of the command line: kept for `tell_hints`."""
    _hints.append(text)


def tell_hints(views: Collection[str]) -> None:
    """Say each hint once, on stderr; for the end of a command that went well, since an error is one line."""
    if not is_quiet(views):
        for text in _hints:
            print(f"hint: {text}", file=sys.stderr)
    forget_hints()


def forget_hints() -> None:
    """A new command has none."""
    _hints.clear()


def print_result(kind: str, path: Path | str, views: Collection[str], **figures: Any) -> None:
    """What a command made: its path, or with --json an object that has it under `kind`, and figures beside it."""
    own_stdout.say(_object({kind: str(path), **figures}) if as_json(views) else str(path))


def print_run(folder: Path, views: Collection[str]) -> None:
    """A finished run: its folder, or with --json its key figures as well."""
    from spade_cli.report.runs import key_figures
    from spade_cli.report.summary import read_summary

    figures: dict[str, Any] = {}
    if as_json(views):
        summary = read_summary(folder)
        figures = {**key_figures(summary), "skipped": [asdict(skipped) for skipped in summary.skipped]}
    print_result("run", folder, views, **figures)


def print_objects(rows: Collection[Mapping[str, Any]]) -> None:
    """JSON, one object a line."""
    for row in rows:
        own_stdout.say(_object(row))


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], views: Collection[str], right: Sequence[str] = ()
) -> None:
    """A table for people, and columns that nothing cuts off for a pipe; columns named in `right` are ranged right."""
    if is_plain(views) or not own_stdout.stream().isatty():
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        for row in (header, *rows):
            own_stdout.say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in header:
        table.add_column(title, overflow="fold", justify="right" if title in right else "left")
    for row in rows:
        table.add_row(*row)
    Console(file=own_stdout.stream(), highlight=False, markup=False).print(table)


def _object(found: Mapping[str, Any]) -> str:
    """JSON that any reader takes: numbers that are not finite become null."""
    return json.dumps(_finite(found), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
