"""Commands that need no configuration: arguments in argparse's manner, mistakes as one line; tables."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from spade_cli.errors import UserError


class OneLineParser(argparse.ArgumentParser):
    """argparse prints its usage before an error; here an error is one line."""

    def error(self, message: str) -> NoReturn:
        """Argparse's own words, and where to read more."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def parser(verb: str, doc: str | None) -> OneLineParser:
    """A parser described by its module's first line."""
    summary = (doc or "").splitlines()[0].split(": ", 1)[1]
    return OneLineParser(f"spade {verb}", description=summary, allow_abbrev=False)


def parsed(takes: OneLineParser, arguments: list[str]) -> argparse.Namespace | None:
    """What was asked; None where it was for help, which has been printed."""
    try:
        return takes.parse_args(arguments)
    except SystemExit:  # --help
        return None


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A table for people, and columns that nothing cuts off for a pipe; columns named in `right` are ranged right."""
    if not sys.stdout.isatty():
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        for row in (header, *rows):
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in header:
        table.add_column(title, overflow="fold", justify="right" if title in right else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
