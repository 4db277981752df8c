"""Keys that nothing reads: refused as soon as a configuration is composed, wherever they come from."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.config.read_yaml import read_keys
from spade_cli.errors import UserError

OLDER, OUT = "output", "out"
REFERENCE = re.compile(r"\$\{\.*([\w.]+)")  # ${seed}: what a YAML file takes from another place
FUNCTIONS = ("augmentation", "pruner", "schedule", "engine")  # groups whose function says which settings there are


def rename_output(config: Any, overrides: Sequence[str]) -> None:
    """`output: FOLDER` of a user's YAML file, written when out had that name, as out; the command line goes first."""
    from omegaconf import open_dict

    if OLDER not in config or OUT not in config:
        return
    with open_dict(config):
        value = config.pop(OLDER)
        if not any(word.lstrip("+").startswith(f"{OUT}=") for word in overrides):
            config[OUT] = value
    terminal.hint(f"write {OUT}: {value} in the YAML file; {OLDER} is an older word for it")


def check_keys(
    command: str, config: Mapping[str, Any], raw: Mapping[str, Any] | None = None, groups: Collection[str] = ()
) -> None:
    """Refuse a key that nothing reads, in every section, and a section that is a single value.

    raw: the configuration with its references (${seed}) as written, since what is referred to is read; groups: those
    it is composed of, the user's own among them.
    """
    known, sections = _list_known_keys(command)
    references = {*REFERENCE.findall(str(raw))}
    for key, value in _flatten(config, "", sections):
        if key in sections and value is not None and not isinstance(value, Mapping):
            raise UserError(f"{key}={value}: {key} has settings of its own; write {sections[key]}=VALUE")
        if not (key in known or key in groups or _is_read(key, references) or _is_method(key, config)):
            near = get_close_matches(key, known, n=1) or [name for name in known if name.endswith(f".{key}")][:1]
            hint = f"did you mean {near[0]}=...?" if near else f"spade {command} --help lists them all"
            raise UserError(f"{key}={value} is not a setting of spade {command}; {hint}")


@cache
def _list_known_keys(command: str) -> tuple[list[str], dict[str, str]]:
    """Every key of the command's YAML files, of whatever choices; and every section, with a key in it."""
    known = read_keys(command, [])
    sections: dict[str, str] = {}
    for key in known:
        parts = key.split(".")
        for depth in range(1, len(parts)):
            sections.setdefault(".".join(parts[:depth]), key)
    return known, sections


def _flatten(settings: Mapping[str, Any], prefix: str, sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, outer ones first; not those within a function's settings or within one setting."""
    for name, value in settings.items():
        key = f"{prefix}{name}"
        yield key, value
        if isinstance(value, Mapping) and key in sections and key not in FUNCTIONS:
            yield from _flatten(value, f"{key}.", sections)


def _is_read(key: str, references: set[str]) -> bool:
    """Whether a reference names the key or a part of it; relative ones name its end."""
    ends = (key, key.rpartition(".")[2])
    return any(one in ends or one.startswith(f"{key}.") for one in references)


def _is_method(key: str, config: Mapping[str, Any]) -> bool:
    """Whether this is the section of a saliency method, which checks its settings itself."""
    section, _, name = key.partition(".")
    if section != "interpreter" or not isinstance(config[section].get(name), Mapping):
        return False
    from spade_cli.interpretation import METHODS

    methods = config[section].get("methods") or []
    listed = [methods] if isinstance(methods, str) else methods
    return name in METHODS or any(re.split(r"[:.]", str(one))[-1] == name for one in listed)
