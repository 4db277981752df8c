"""How much a command says, and in what form: --quiet, --plain and --json."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

QUIET, PLAIN, JSON = ("-q", "--quiet"), ("--plain",), ("--json",)
VIEWS = (*QUIET, *PLAIN, *JSON)


def console(views: Collection[str]) -> "Console":
    """Where progress and findings go: stderr, as a person sees it, as plain lines, or nowhere."""
    from rich.console import Console

    quiet, plain = (any(flag in views for flag in flags) for flags in (QUIET, PLAIN))
    # Lines keep their length in a pipe or a log: a path that is broken in two can't be copied.
    return Console(
        stderr=True,
        soft_wrap=True,
        highlight=False,
        quiet=quiet,
        force_terminal=False if plain else None,
        no_color=True if plain else None,
    )


def print_run(folder: Path, views: Collection[str]) -> None:
    """A finished run on stdout: its folder, or with --json its key figures as one object on a line."""
    if not any(flag in views for flag in JSON):
        print(folder)
        return
    from spade_cli.runs import key_figures, read_summary

    found = read_summary(folder)
    print(json.dumps({"run": str(folder), **key_figures(found), "skipped": found["skipped"]}, ensure_ascii=False))
