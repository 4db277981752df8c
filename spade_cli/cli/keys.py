"""Keys that are no option, and choices that are no name: refused as soon as a configuration arrives."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from spade_cli.cli.options import Group, read_command
from spade_cli.errors import UserError

BOUND = ("augmentation", "pruner", "schedule", "engine")  # groups whose function says which settings there are


def check_keys(command: str, config: Mapping[str, Any]) -> None:
    """Refuse a key that no YAML file of the command has, in every section, and a section that is a single value."""
    known, sections = _known(command)
    for key, value in _every(config, "", sections):
        if key not in known:
            near = get_close_matches(key, known, n=1) or [name for name in known if name.endswith(f".{key}")][:1]
            hint = f"did you mean {near[0]}=...?" if near else f"spade {command} --help lists them all"
            raise UserError(f"{key}={value} is not an option of spade {command}; {hint}")
        if key in sections and not isinstance(value, dict):
            raise UserError(f"{key}={value}: {key} has settings of its own; write {sections[key]}=VALUE")


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
