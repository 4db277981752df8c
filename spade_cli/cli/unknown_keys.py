"""Settings that nothing reads are refused: `+foo=1` on the command line, a slip in a YAML file of the user's own."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from spade_cli.cli import terminal
from spade_cli.cli.options import read_command
from spade_cli.errors import UserError

BY_FUNCTION = ("augmentation", "pruner", "schedule", "engine")  # their functions say which settings they take
OLDER, OUT = "output", "out"
REFERENCE = re.compile(r"\$\{\.*([\w.]+)")  # ${seed}: what a YAML file takes from another place


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


def check_keys(command: str, config: Mapping[str, Any], raw: Mapping[str, Any], choices: Collection[str]) -> None:
    """UserError for a key that `spade COMMAND` does not know.

    config: the composed configuration; raw: the same with its references (${seed}) as written, since a key that is
    referred to is read; choices: the groups of the configuration, the user's own among them.
    """
    own, groups = read_command(command, [])
    known = {option.key for option in own}
    known |= {option.key for group in groups for choice in group.choices for option in choice.options}
    sections = {key.partition(".")[0] for key in known if "." in key}
    top = {key.partition(".")[0] for key in known} | {group.name for group in groups} | {*choices}
    read = {*_references(raw)}
    for name, value in config.items():
        if name not in top and not _is_read(name, read):
            raise _unknown(name, command, known)
        if name in sections and name not in BY_FUNCTION and value is not None:
            _check_section(command, name, value, known, read)


def _check_section(command: str, section: str, value: Any, known: set[str], read: set[str]) -> None:
    if not isinstance(value, Mapping):
        keys = ", ".join(sorted(key for key in known if key.startswith(f"{section}.")))
        raise UserError(f"{section}={value} does not say which of its settings; there are {keys}")
    for key in value:
        full = f"{section}.{key}"
        if full in known or any(one.startswith(f"{full}.") for one in known) or _is_read(full, read):
            continue
        if not (section == "interpreter" and _is_method(key, value)):
            raise _unknown(full, command, known)


def _is_method(key: str, interpreter: Mapping[str, Any]) -> bool:
    """Whether this is the section of a saliency method, which checks its settings itself."""
    from spade_cli.interpretation import METHODS

    asked = interpreter.get("methods") or []
    named = [asked] if isinstance(asked, str) else asked
    return key in METHODS or any(re.split(r"[:.]", str(name))[-1] == key for name in named)


def _unknown(key: str, command: str, known: set[str]) -> UserError:
    near = get_close_matches(key, known, n=1)
    near = near or [one for one in sorted(known) if one.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    hint = f"did you mean {near[0]}=VALUE?" if near else f"spade {command} --help lists them all"
    return UserError(f"{key} is not a setting of spade {command}; {hint}")


def _references(raw: Any) -> Iterator[str]:
    if isinstance(raw, Mapping):
        raw = list(raw.values())
    if isinstance(raw, list):
        for value in raw:
            yield from _references(value)
    elif isinstance(raw, str):
        yield from REFERENCE.findall(raw)


def _is_read(key: str, references: set[str]) -> bool:
    """Whether a reference names the key, a part of it, or what it is a part of; relative ones name its end."""
    ends = (key, key.rpartition(".")[2])
    return any(one in ends or one.startswith(f"{key}.") or key.startswith(f"{one}.") for one in references)
