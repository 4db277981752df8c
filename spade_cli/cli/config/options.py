"""The options of a command, read from the YAML files with the comments that say what they mean."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spade_cli.errors import UserError

PACKAGE = Path(__file__).resolve().parents[2]
# Inside the package once installed, beside it in a checkout.
CONFIGS = next(p for p in (PACKAGE / "configs", PACKAGE.parent / "configs") if p.is_dir())
HIDDEN = ("defaults", "_target_", "hydra")  # Hydra's and spade's own wiring
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w.]+):(?: +(?P<value>[^#\s].*?))?(?: +# (?P<meaning>.*))?")


@dataclass(frozen=True)
class Option:
    """One key of one YAML file."""

    key: str  # dotted, as typed on the command line
    default: str  # as written in the YAML; "" for a section
    meaning: str  # "" where the file has no comment


@dataclass(frozen=True)
class Choice:
    """One file of a group, such as pruner=obs."""

    name: str
    meaning: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Group:
    """A folder of the configuration: its default choice and all of its choices."""

    name: str
    default: str
    choices: tuple[Choice, ...]


def read_command(name: str, folders: list[Path]) -> tuple[tuple[Option, ...], tuple[Group, ...]]:
    """A command's own options and its groups, with the choices in the user's folders and spade's."""
    file = CONFIGS / f"{name}.yaml"
    groups = [
        Group(group, default, tuple(_choices(group, folders)))
        for group, default in _defaults(file)
        if default and not group.startswith(("_", "override"))
    ]
    own = tuple(option for option in read_options(file, "") if option.key.split(".")[0] not in {g.name for g in groups})
    changed = {option.key: option for option in read_options(file, "")}
    return own, tuple(_with_defaults(group, changed) for group in groups)


def read_options(file: Path, prefix: str) -> list[Option]:
    """Every key of a file and of the files it is composed of; a later file's default and meaning win."""
    found: dict[str, Option] = {}
    for neighbour, choice in _defaults(file):
        # A user's file may be composed of spade's own, as in Hydra's search path.
        places = (file.parent / f"{neighbour}.yaml", CONFIGS / file.parent.name / f"{neighbour}.yaml")
        part = next((place for place in places if place.is_file()), None)
        if not choice and neighbour != "_self_" and part:
            found |= {option.key: option for option in read_options(part, prefix)}
    for option in _own_options(file, prefix):
        found[option.key] = option if option.meaning or option.key not in found else found[option.key]
    return list(found.values())


def describe(file: Path) -> str:
    """The file's first comment that is no directive of Hydra's."""
    lines = _lines(file)
    return next((line[1:].strip() for line in lines if line.startswith("#") and not line.startswith("# @")), "")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({error}); save it as UTF-8 text, or leave out --config-dir") from None


def _choices(group: str, folders: list[Path]) -> Iterator[Choice]:
    """The user's folders come first, as in Hydra's search path."""
    files: dict[str, Path] = {}
    for folder in (*folders, CONFIGS):
        for file in sorted((folder / group).glob("*.yaml")):
            if not file.stem.startswith("_"):
                files.setdefault(file.stem, file)
    for name, file in sorted(files.items()):
        yield Choice(name, describe(file), tuple(read_options(file, f"{group}.")))


def _with_defaults(group: Group, changed: dict[str, Option]) -> Group:
    """A command's own file has the last word on a group's defaults (layers: model.weights=none)."""
    choices = tuple(
        Choice(c.name, c.meaning, tuple(changed.get(option.key, option) for option in c.options)) for c in group.choices
    )
    return Group(group.name, group.default, choices)


def _own_options(file: Path, prefix: str) -> Iterator[Option]:
    path: list[tuple[int, str]] = []  # (indent, key) of the sections around a line
    for line in _lines(file):
        match = LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        indent = len(match["indent"])
        path = [(depth, key) for depth, key in path if depth < indent] + [(indent, match["key"])]
        if path[0][1] not in HIDDEN and match["key"] not in HIDDEN:
            yield Option(prefix + ".".join(key for _, key in path), match["value"] or "", match["meaning"] or "")


def _defaults(file: Path) -> Iterator[tuple[str, str]]:
    """The defaults list as (group, choice), or (file, "") for a plain file."""
    inside = False
    for line in _lines(file):
        if line.startswith("defaults:"):
            inside = True
        elif inside and line.strip().startswith("- "):
            name, _, choice = line.strip()[2:].partition(":")
            yield name.strip(), choice.strip()
        elif inside and line.strip() and not line.strip().startswith("#"):
            return
