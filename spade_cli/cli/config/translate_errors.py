"""Hydra's and OmegaConf's errors -> one line that says what was asked, what was found and what to do."""

import re
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from spade_cli.cli.config.options import Option, read_command
from spade_cli.cli.config.quoting import FREE_TEXT, PATHS, PICTURE
from spade_cli.errors import UserError
from spade_cli.files import expand_path

MANY = ("batch", "sweep", "implant")  # commands whose pictures are images=
HYDRA_ERRORS = (HydraException, OmegaConfBaseException)
# Before a task begins. ValueError: a file that is not UTF-8, a number of thousands of digits. TypeError: ~LIST.0.
COMPOSING_ERRORS = (*HYDRA_ERRORS, YAMLError, ValueError, TypeError)


def translate(error: Exception, command: str, overrides: list[str], folders: list[Path]) -> UserError:
    """The user's mistake behind one of Hydra's errors."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return _bad_grammar(error.override)
    if isinstance(error, ConfigCompositionException) and (found := _composition(error, command, overrides, folders)):
        return found
    if isinstance(error, SearchPathException):
        return UserError(f"--config-dir: {error}; give a folder with YAML files such as pruner/mine.yaml")
    if isinstance(error, InterpolationResolutionError):
        return UserError(
            f"the configuration refers to something that is not there ({_one_line(error)}); write \\${{ for plain text"
        )
    if isinstance(error, YAMLError):
        return UserError(f"a YAML file cannot be read: {_one_line(error)}; correct it, or leave out --config-dir")
    return UserError(
        f"the command line or a YAML file does not compose: {_one_line(error)}; see spade {command} --help"
    )


def _composition(error: Exception, command: str, overrides: list[str], folders: list[Path]) -> UserError | None:
    """What Hydra says of words that do not fit the configuration, in spade's."""
    text = _one_line(error)
    if match := re.search(r"Could not override '([^']*)'", text):
        return _unknown_key(match[1], command, overrides, folders)
    if match := re.search(r"Ambiguous value for argument '(.*?)' 1\.", text):
        beside = ", or use spade sweep, which lays them side by side" if command == "run" else ""
        return UserError(f"{match[1]} has several values; add -m to do it once for each{beside}; a list is KEY=[a,b]")
    if match := re.search(r"An item is already at '([^']*)'", text):
        return UserError(f"+{match[1]}: {match[1]} is a setting already; write {match[1]}=VALUE, without the +")
    if match := re.search(r"Could not delete from config\. (.*?)\.?$", text):
        return UserError(f"~ takes a setting out: {match[1]}; spade {command} --help lists the settings")
    return None


def _one_line(error: Exception) -> str:
    text = re.sub(r"See https\S+.*|full_key:.*|object_type=.*", "", f"{error} {error.__cause__ or ''}")
    return " ".join(text.split())


def check_words(command: str, overrides: list[str], folders: list[Path]) -> None:
    """UserError for a word that is not KEY=VALUE, with what it may have been meant as."""
    for index, word in enumerate(overrides):
        key, equals, _ = word.partition("=")
        if word.startswith("~"):
            continue
        if not key.strip("+") or not equals:
            raise _not_a_setting(command, index, overrides, folders)


def _not_a_setting(command: str, index: int, overrides: list[str], folders: list[Path]) -> UserError:
    word = overrides[index]
    said = f"{word!r} is not KEY=VALUE"
    before, after = overrides[index - 1] if index else "", overrides[index + 1] if index + 1 < len(overrides) else ""
    own, groups = read_command(command, folders)
    if word.startswith("=") or after.startswith("=") or before.endswith("="):
        return UserError(f"{said}; write KEY=VALUE without blanks around the =")
    if choices := [f"{group.name}={word}" for group in groups if word in [choice.name for choice in group.choices]]:
        return UserError(f"{said}; did you mean {' or '.join(choices)}?")
    if word in [*_keys(own), *(group.name for group in groups)]:
        return UserError(f"{said}; give {word} its value: {word}=VALUE")
    key, _, value = before.partition("=")
    value = value.strip("'")
    if key in FREE_TEXT and not (key in PATHS and (PICTURE.fullmatch(value) or expand_path(value).exists())):
        rest = list(takewhile(lambda one: "=" not in one, overrides[index:]))
        return UserError(f"{said}; did you mean '{key}={' '.join([value, *rest])}'? a value with blanks needs quotes")
    if PICTURE.fullmatch(word) or "/" in word:
        return UserError(f"{said}; did you mean {'images' if command in MANY else 'image'}={word}?")
    return UserError(f"{said}; write a setting and its value, such as pruner=obs")


def bad_flag(message: str, arguments: list[str], command: str) -> UserError:
    """What Hydra's parser complains about, in spade's words."""
    match = re.fullmatch(r"unrecognized arguments: (-\S+).*", message)
    if "--cfg" in message:
        return UserError("--cfg prints the configuration; write --cfg job")
    if match is None:
        return UserError(f"{message}; see spade {command} --help")
    flag, equals, value = match[1].partition("=")
    following = arguments[arguments.index(flag) + 1 :] if flag in arguments else []
    if not equals:
        value = following[0] if following and not following[0].startswith("-") and "=" not in following[0] else "VALUE"
    name = flag.lstrip("-").replace("-", "_")
    own, groups = read_command(command, [])
    known = [*_keys(own), *(k for group in groups for choice in group.choices for k in _keys(choice.options))]
    near = [key for key in known if name in (key, key.rpartition(".")[2])] or get_close_matches(name, known, n=1)
    if near:
        return UserError(f"{flag} is not a flag; settings are written KEY=VALUE: {near[0]}={value}")
    return UserError(f"{flag} is not a flag; see spade {command} --help, where settings are written KEY=VALUE")


def _unknown_choice(error: MissingConfigException) -> UserError:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return UserError(f"there is no configuration called {choice}; leave --config-name out")
    options = [str(option) for option in error.options or () if not str(option).startswith("_")]
    if not options:
        return UserError(f"{group}={choice}: there is no group called {group}; see spade run --help")
    near = get_close_matches(choice, options, n=1)
    hint = f"did you mean {group}={near[0]}? " if near else ""
    more = "; any other of torchvision's: model=torchvision model.name=NAME" if group == "model" else ""
    return UserError(f"{group}={choice} is unknown; {hint}there are {', '.join(options)}{more}")


def _bad_grammar(override: str) -> UserError:
    key, _, value = override.partition("=")
    plain = value.replace("'", "")
    if value[:1] in ("[", "{"):
        return UserError(
            f"{override!r} cannot be read: close its brackets; a list is [a,b] and a mapping {{a: 1, b: 2}}"
        )
    return UserError(f"{override!r} cannot be read: the value needs quotes of its own, such as \"{key}='{plain}'\"")


def _unknown_key(key: str, command: str, overrides: list[str], folders: list[Path]) -> UserError:
    own, groups = read_command(command, folders)
    chosen = {group.name: _chosen(group.name, group.default, overrides) for group in groups}
    elsewhere = [f"{g.name}={c.name}" for g in groups for c in g.choices if key in _keys(c.options)]
    if elsewhere:
        group = key.partition(".")[0]
        return UserError(f"{key} is not a setting of {group}={chosen[group]}; it belongs to {' and '.join(elsewhere)}")
    known = [g.name for g in groups] + _keys(own)
    known += [k for g in groups for c in g.choices if c.name == chosen[g.name] for k in _keys(c.options)]
    near = (
        get_close_matches(key, known, n=1) or [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    )
    hint = f"did you mean {near[0]}=...?" if near else f"spade {command} --help lists them all"
    return UserError(f"{key} is not a setting; {hint}")


def _keys(options: tuple[Option, ...]) -> list[str]:
    return [option.key for option in options]


def _chosen(group: str, default: str, overrides: list[str]) -> str:
    """The last choice on the command line; a sweep counts by its first value."""
    typed = [override.partition("=")[2] for override in overrides if override.startswith(f"{group}=")]
    return typed[-1].split(",")[0] if typed else default
