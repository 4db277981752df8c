"""'package.module:function' -> the user's function, or what it returns; its errors become one line."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from spade_cli.errors import UserError
from spade_cli.files import expand_path

NEEDED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def call_factory(text: str, asked: str) -> Any:
    """Import the function and call it; a name that holds a network or a classifier needs no call.

    `text` is package.module:function, or PATH.py:function. Raises UserError where the function is missing or fails.
    """
    factory = find_factory(text, asked)
    if _is_network(factory):
        return factory
    _check_arguments(factory, text, asked)
    with _reword_errors(asked, "a factory is called without arguments and returns a torch.nn.Module"):
        return factory()


def find_factory(
    text: str, asked: str, wanted: str = "a function that returns a torch.nn.Module", example: str = "mynet.model:build"
) -> Any:
    """Import the function. Raises UserError where it is missing; `wanted` and `example` say what to give instead."""
    module_name, colon, attribute = text.rpartition(":")
    is_file = module_name.endswith(".py")
    if not (colon and attribute and (is_file or all(module_name.split(".")))):
        raise UserError(f"{asked} is not of the form package.module:function; write for example {example}")
    with _reword_errors(f"{asked}: importing {module_name}", "correct that file"):
        found = _import_file(expand_path(module_name), asked) if is_file else _import_module(module_name, asked)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=3)
            raise UserError(
                f"{asked}: {module_name} has no {part}"
                + (f"; close: {', '.join(near)}" if near else "; check the name")
            )
        found = getattr(found, part)
    if not callable(found) and not _is_network(found):
        raise UserError(f"{asked} is an object of type {type(found).__name__}: give {wanted}")
    return found


def _is_network(found: Any) -> bool:
    """Whether it is a network, or a classifier around one."""
    return isinstance(found, nn.Module) or isinstance(getattr(found, "model", None), nn.Module)


def _check_arguments(factory: Any, text: str, asked: str) -> None:
    """Raise UserError for a factory that needs arguments, and name them."""
    try:
        parameters = inspect.signature(factory, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # functions that are not written in Python have no signature
        return
    needed = [one.name for one in parameters if one.kind in NEEDED and one.default is one.empty]
    if needed:
        name = text.rpartition(":")[2]
        kind = "class" if inspect.isclass(factory) else "function"
        given = ", ".join(f"{one}=..." for one in needed)
        raise UserError(
            f"{asked} is a {kind} that needs {', '.join(needed)}, and a factory is called without arguments; write "
            f"a function that calls it, such as def build(): return {name}({given})"
        )


def _import_module(module_name: str, asked: str) -> Any:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UserError(
                f"{asked}: no module {error.name}; install it or start spade in the folder that holds it"
            ) from None
        raise UserError(f"{asked}: {module_name} needs the module {error.name}, which is missing; install it") from None


def _import_file(path: Path, asked: str) -> Any:
    """Import a file as the module of its name; it may import files of its folder, as a script that Python runs may."""
    if not path.is_file():
        parts = path.with_suffix("").parts
        module = f"{'.'.join(parts)}:{asked.rpartition(':')[2]}"
        hint = f"; for a module that is installed write {module}" if all(map(str.isidentifier, parts)) else ""
        raise UserError(f"{asked}: no file {path}; check the path, which starts in {Path.cwd()}{hint}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that it shadows nothing
    spec = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if spec is not None and spec.origin and Path(spec.origin).resolve() == path.resolve():
        return _import_module(path.stem, asked)
    return _run_file(path, f"spade_factory_{path.stem}", asked)


def _run_file(path: Path, name: str, asked: str) -> Any:
    """Import a file whose name cannot be a module's, or is another module's."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # of a file that ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and copies look their classes up there
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{asked}: {path} needs the module {error.name}, which is missing; install it") from None
    return module


@contextmanager
def _reword_errors(asked: str, hint: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a UserError with the line that raised it."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        # A syntax error names its own place; where a call failed for its arguments, the last line is in this file.
        theirs = place.filename != __file__ and not isinstance(error, SyntaxError)
        where = f" in {Path(place.filename).name}, line {place.lineno}" if theirs else ""
        raise UserError(f"{asked} raised {type(error).__name__}{where}: {error}; {hint}") from error
