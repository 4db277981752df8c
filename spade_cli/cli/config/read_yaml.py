"""The settings of a command, read from the YAML files with the comments that say what they mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import yaml

from spade_cli.errors import UserError

PACKAGE = Path(__file__).resolve().parents[2]
# Inside the package once installed, beside it in a checkout.
CONFIGS = next(p for p in (PACKAGE / "configs", PACKAGE.parent / "configs") if p.is_dir())
HIDDEN = ("defaults", "_target_", "hydra")  # Hydra's and spade's own wiring
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as quick


@dataclass(frozen=True)
class YamlSetting:
    """One key of one YAML file."""

    key: str  # dotted, as typed on the command line
    default: str  # as written in the YAML; "" for a section
    meaning: str  # "" where the file has no comment


@dataclass(frozen=True)
class Choice:
    """One file of a group, such as pruner=obs."""

    name: str
    meaning: str
    settings: tuple[YamlSetting, ...]


@dataclass(frozen=True)
class Group:
    """A folder of the configuration: its default choice and all of its choices."""

    name: str
    default: str
    choices: tuple[Choice, ...]


def read_command(name: str, folders: list[Path]) -> tuple[tuple[YamlSetting, ...], tuple[Group, ...]]:
    """A command's own settings and its groups, with the choices in spade's folder and the user's."""
    file = CONFIGS / f"{name}.yaml"
    settings = {setting.key: setting for setting in read_yaml_settings(file)}
    groups = [
        Group(group, default, tuple(_choices(group, folders, settings)))
        for group, default in _defaults(_read(file)[1])
        if default and not group.startswith("override")
    ]
    own = [setting for key, setting in settings.items() if key.split(".")[0] not in {group.name for group in groups}]
    return tuple(own), tuple(groups)


def read_keys(name: str, folders: list[Path]) -> list[str]:
    """Every key of a command: its own, its groups, and those of every choice."""
    own, groups = read_command(name, folders)
    inner = [setting.key for group in groups for choice in group.choices for setting in choice.settings]
    return list(dict.fromkeys([*(setting.key for setting in own), *(group.name for group in groups), *inner]))


def read_yaml_settings(file: Path, prefix: str = "") -> list[YamlSetting]:
    """Every key of a file and of the files it is composed of; a later file's default and meaning win."""
    text, root = _read(file)
    own = {setting.key: setting for setting in _own_settings(root, text, prefix)}
    parts = [name for name, choice in _defaults(root) if not choice]
    found: dict[str, YamlSetting] = {}
    for name in parts if "_self_" in parts else [*parts, "_self_"]:
        # A user's file may be composed of spade's own, as in Hydra's search path.
        places = (file.parent / f"{name}.yaml", CONFIGS / file.parent.name / f"{name}.yaml")
        place = next((place for place in places if place.is_file()), None)
        settings = {setting.key: setting for setting in read_yaml_settings(place, prefix)} if place else {}
        for key, setting in (own if name == "_self_" else settings).items():
            found[key] = setting if setting.meaning or key not in found else found[key]
    return list(found.values())


def describe(file: Path) -> str:
    """The file's first comment that is no directive of Hydra's."""
    lines = _read(file)[0].splitlines()
    return next((line[1:].strip() for line in lines if line.startswith("#") and not line.startswith("# @")), "")


def _read(file: Path) -> tuple[str, yaml.Node | None]:
    """A YAML file's text, and its nodes, which know their places in the text."""
    try:
        text = file.read_text(encoding="utf-8")
        return text, yaml.compose(text, LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read as YAML ({reason}); correct it, or leave out --config-dir") from None


def _choices(group: str, folders: list[Path], changed: dict[str, YamlSetting]) -> Iterator[Choice]:
    """A group's files; the command's own file has the last word on their defaults (layers: model.weights=none)."""
    files: dict[str, Path] = {}
    for folder in (CONFIGS, *folders):  # as in Hydra's search path
        for file in (folder / group).glob("*.yaml"):
            if not file.stem.startswith("_"):
                files.setdefault(file.stem, file)
    for name, file in sorted(files.items()):
        settings = read_yaml_settings(file, f"{group}.")
        yield Choice(name, describe(file), tuple(changed.get(setting.key, setting) for setting in settings))


def _own_settings(node: yaml.Node | None, text: str, prefix: str) -> Iterator[YamlSetting]:
    for key, value in _entries(node):
        if key.value in HIDDEN:
            continue
        section = isinstance(value, yaml.MappingNode) and not value.flow_style
        last = key if section else value
        default = "" if section else text[value.start_mark.index : value.end_mark.index]
        yield YamlSetting(f"{prefix}{key.value}", default, _comment(text, last.end_mark, key.start_mark.column))
        if section:
            yield from _own_settings(value, text, f"{prefix}{key.value}.")


def _comment(text: str, end: yaml.Mark, column: int) -> str:
    """The comment behind a key or value that ends there, and below it where it is indented more than the key."""
    behind, *below = text[end.index :].splitlines() or [""]
    behind = behind.lstrip(": ")
    more = takewhile(lambda line: line.lstrip().startswith("#") and line.index("#") > column, below)
    return " ".join(line.lstrip(" #").rstrip() for line in (behind, *more) if line.lstrip().startswith("#"))


def _defaults(root: yaml.Node | None) -> Iterator[tuple[str, str]]:
    """The defaults list as (group, choice), or (file, "") for a plain file."""
    for key, listed in _entries(root):
        for item in listed.value if key.value == "defaults" and isinstance(listed, yaml.SequenceNode) else ():
            yield from ((group.value, choice.value) for group, choice in _entries(item))
            if isinstance(item, yaml.ScalarNode):
                yield item.value, ""


def _entries(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of a mapping, () of anything else; a key is a text."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [pair for pair in pairs if isinstance(pair[0], yaml.ScalarNode)]
