"""'package.module:function' -> what the user's own function returns; whatever it raises is told in one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError


def make(text: str, asked: str) -> Any:
    """Import the function and call it; UserError where there is none, or where it fails."""
    factory = find_factory(text, asked)
    with _told(asked, "a factory is called without arguments and returns a torch.nn.Module"):
        return factory()


def find_factory(
    text: str, asked: str, wanted: str = "a function that returns a torch.nn.Module", example: str = "mynet.model:build"
) -> Any:
    """Import the function; UserError where there is none. `wanted` and `example` say what to give instead."""
    module_name, colon, attribute = text.partition(":")
    if not (colon and attribute and all(module_name.split("."))):
        raise UserError(f"{asked} is not of the form package.module:function; write for example {example}")
    with _told(f"{asked}: importing {module_name}", "correct that file"):
        found = _import(module_name, asked)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=3)
            raise UserError(
                f"{asked}: {module_name} has no {part}"
                + (f"; close: {', '.join(near)}" if near else "; check the name")
            )
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{asked} is {type(found).__name__}: give {wanted}")
    return found


def _import(module_name: str, asked: str) -> Any:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UserError(
                f"{asked}: no module {error.name}; install it or start spade in the folder that holds it"
            ) from None
        raise UserError(f"{asked}: {module_name} needs the module {error.name}, which is missing; install it") from None


@contextmanager
def _told(asked: str, hint: str) -> Iterator[None]:
    """Whatever the user's code raises, with the line it comes from."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        # A syntax error names its own place, and a call without its arguments never got beyond this file.
        theirs = place.filename != __file__ and not isinstance(error, SyntaxError)
        where = f" in {Path(place.filename).name}, line {place.lineno}" if theirs else ""
        raise UserError(f"{asked} raised {type(error).__name__}{where}: {error}; {hint}") from error
