"""Keys that nothing reads, and choices that are not names: refused as soon as a configuration arrives."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.config.options import Group, read_command
from spade_cli.errors import UserError

OLDER, OUT = "output", "out"
REFERENCE = re.compile(r"\$\{\.*([\w.]+)")  # ${seed}: what a YAML file takes from another place
BOUND = ("augmentation", "pruner", "schedule", "engine")  # groups whose function says which settings there are


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
    known, sections = _known(command)
    references = {*_references(raw or {})}
    for key, value in _every(config, "", sections):
        if key in sections and value is not None and not isinstance(value, Mapping):
            raise UserError(f"{key}={value}: {key} has settings of its own; write {sections[key]}=VALUE")
        if not (key in known or key in groups or _is_read(key, references) or _is_method(key, config)):
            near = get_close_matches(key, known, n=1) or [name for name in known if name.endswith(f".{key}")][:1]
            hint = f"did you mean {near[0]}=...?" if near else f"spade {command} --help lists them all"
            raise UserError(f"{key}={value} is not a setting of spade {command}; {hint}")


def _references(raw: Any) -> Iterator[str]:
    if isinstance(raw, Mapping):
        raw = list(raw.values())
    if isinstance(raw, list):
        for value in raw:
            yield from _references(value)
    elif isinstance(raw, str):
        yield from REFERENCE.findall(raw)


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

    asked = config[section].get("methods") or []
    named = [asked] if isinstance(asked, str) else asked
    return name in METHODS or any(re.split(r"[:.]", str(one))[-1] == name for one in named)


def _own_methods(config: Mapping[str, Any]) -> list[str]:
    """Sections of saliency methods of the user's own, whose functions say which settings there are."""
    interpreter = config.get("interpreter")
    methods = interpreter.get("methods") if isinstance(interpreter, Mapping) else None
    listed = methods if isinstance(methods, list) else [methods]
    return [f"interpreter.{name.rpartition(':')[2]}" for name in listed if isinstance(name, str) and ":" in name]


@cache
def _known(command: str) -> tuple[dict[str, None], dict[str, str]]:
    """Every key of the command's YAML files, of whatever choices; and every section, with a key in it."""
    own, groups = read_command(command, [])
    inner = [option.key for group in groups for choice in group.choices for option in choice.options]
    known = dict.fromkeys([*(option.key for option in own), *(group.name for group in groups), *inner])
    sections: dict[str, str] = {}
    for key in known:
        parts = key.split(".")
        for depth in range(1, len(parts)):
            sections.setdefault(".".join(parts[:depth]), key)
    return known, sections


def _every(settings: Mapping[str, Any], prefix: str, sections: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, outer ones first; not those within a function's settings or within one option."""
    for name, value in settings.items():
        key = f"{prefix}{name}"
        yield key, value
        if isinstance(value, Mapping) and key in sections and key not in BOUND:
            yield from _every(value, f"{key}.", sections)


def check_choices(command: str, overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse `pruner=3` and the like: a group's choice is the name of one of its files."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString

    groups = {group.name: group for group in read_command(command, list(folders))[1]}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group in groups and not override.is_delete() and not override.is_sweep_override():
            value = override.value()
            if not isinstance(value, str | QuotedString):
                raise UserError(f"{override.input_line}: {_names(groups[override.key_or_group])}")


def _names(group: Group) -> str:
    word = "an" if group.name[0] in "aei" else "a"
    return f"{word} {group.name} is chosen by its name; there are {', '.join(choice.name for choice in group.choices)}"
