"""What `spade run --help` prints: every setting, its default and its meaning, group by group."""

import shutil
import textwrap
from pathlib import Path

from spade_cli.cli.config.read_yaml import CONFIGS, Group, YamlSetting, describe, read_command
from spade_cli.cli.terminal import MEANINGS

KEY_WIDTH = 38  # the longest key with its default fits, but for lists
LONGEST_LIST = 10  # the default methods are shown in full, the tables of the paper are not
FLAGS = (
    ("--config-dir DIR", "a folder of your own YAML files, laid out as spade's: DIR/pruner/mine.yaml is pruner=mine"),
    ("--cfg job", "print the configuration and stop"),
    *MEANINGS,
)


def manual(command: str, usage: str, examples: tuple[str, ...], folders: list[Path]) -> str:
    """The help of one command."""
    own, groups = read_command(command, folders)
    parts = [f"spade {command}: {describe(CONFIGS / f'{command}.yaml')}", f"usage: {usage}"]
    if own:
        parts.append("\n".join(_row(setting) for setting in own))
    parts += [_group(group) for group in groups]
    parts.append("flags\n" + "\n".join(line(flag, meaning) for flag, meaning in FLAGS))
    parts.append("examples\n" + "\n".join(f"  {example}" for example in examples))
    return "\n\n".join(parts)


def _group(group: Group) -> str:
    lines = [f"{group.name}={group.default}"]
    lines += [line(f"  {choice.name}", choice.meaning) for choice in group.choices]
    for setting, choices in _list_settings(group):
        shared = len(choices) == len(group.choices)
        lines.append(_row(setting, "" if shared else f" [{', '.join(choices)}]"))
    return "\n".join(lines)


def _list_settings(group: Group) -> list[tuple[YamlSetting, list[str]]]:
    """Each setting once, with the choices that have it; the default choice's values where it has the setting."""
    ordered = sorted(group.choices, key=lambda choice: choice.name != group.default)
    found: dict[str, tuple[YamlSetting, list[str]]] = {}
    for choice in ordered:
        for setting in choice.settings:
            found.setdefault(setting.key, (setting, []))[1].append(choice.name)
    return sorted(found.values(), key=lambda entry: len(entry[1]) < len(ordered))


def _row(setting: YamlSetting, note: str = "") -> str:
    default = "(required)" if setting.default == "???" else setting.default  # Hydra's sign for what must be given
    if default.count(",") > LONGEST_LIST:
        default = ",".join(default.split(",")[:3]) + ", ...]"
    shown = f"{setting.key}={default}" if default else f"{setting.key}.*"
    return line(shown, setting.meaning + note)


def line(left: str, meaning: str) -> str:
    """A word and its meaning, which is wrapped in a column of its own."""
    columns = max(60, min(shutil.get_terminal_size((120, 24)).columns, 140))
    text = textwrap.wrap(meaning, columns - KEY_WIDTH - 4) or [""]
    if len(left) > KEY_WIDTH:
        text = ["", *text]
    first = f"  {left:<{KEY_WIDTH}}  {text[0]}".rstrip()
    return "\n".join([first, *(" " * (KEY_WIDTH + 4) + line for line in text[1:])])
