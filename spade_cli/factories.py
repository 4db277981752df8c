"""'package.module:function' -> the user's own function that returns a network."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from spade_cli.errors import UserError


def find_factory(text: str, asked: str) -> Any:
    """Import the function; UserError where there is none."""
    module_name, colon, attribute = text.partition(":")
    if not (colon and module_name and attribute):
        raise UserError(f"{asked} is not of the form package.module:function; write for example mynet.model:build")
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise UserError(
                f"{asked}: no module {error.name}; install it or start spade in the folder that holds it"
            ) from None
        raise UserError(f"{asked}: {module_name} needs the module {error.name}, which is missing; install it") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=3)
            raise UserError(
                f"{asked}: {module_name} has no {part}"
                + (f"; close: {', '.join(near)}" if near else "; check the name")
            )
        found = getattr(found, part)
    if not callable(found):
        raise UserError(f"{asked} is {type(found).__name__}: give a function that returns a torch.nn.Module")
    return found
