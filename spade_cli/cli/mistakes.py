"""Hydra's and OmegaConf's errors -> one line that says what was asked, what was found and what to do."""

import re
from difflib import get_close_matches
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

from spade_cli.cli.options import Option, read_command
from spade_cli.errors import UserError

HYDRA_ERRORS = (HydraException, OmegaConfBaseException)
# Before a task begins. ValueError: a file that is not UTF-8, a number of thousands of digits.
COMPOSING_ERRORS = (*HYDRA_ERRORS, YAMLError, ValueError)


def translate(error: Exception, command: str, overrides: list[str], folders: list[Path]) -> UserError:
    """The user's mistake behind one of Hydra's errors."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return _bad_grammar(error.override)
    key = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, ConfigCompositionException) and key:
        return _unknown_key(key[1], command, overrides, folders)
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


def _one_line(error: Exception) -> str:
    text = re.sub(r"See https\S+.*|full_key:.*|object_type=.*", "", f"{error} {error.__cause__ or ''}")
    return " ".join(text.split())


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
    key, equals, value = override.partition("=")
    if not equals:
        if "/" in override or re.search(r"\.(png|jpe?g|webp|tiff?|bmp|gif|heic)$", override, re.IGNORECASE):
            return UserError(f"{override!r} is no key=value; did you mean image={override}?")
        return UserError(f"{override!r} is no key=value; write an option and its value, such as pruner=obs")
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
        return UserError(f"{key} is no option of {group}={chosen[group]}; it belongs to {' and '.join(elsewhere)}")
    known = [g.name for g in groups] + _keys(own)
    known += [k for g in groups for c in g.choices if c.name == chosen[g.name] for k in _keys(c.options)]
    near = (
        get_close_matches(key, known, n=1) or [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    )
    hint = f"did you mean {near[0]}=...?" if near else f"spade {command} --help lists them all"
    return UserError(f"{key} is no option; {hint}")


def _keys(options: tuple[Option, ...]) -> list[str]:
    return [option.key for option in options]


def _chosen(group: str, default: str, overrides: list[str]) -> str:
    """The last choice on the command line; a sweep counts by its first value."""
    typed = [override.partition("=")[2] for override in overrides if override.startswith(f"{group}=")]
    return typed[-1].split(",")[0] if typed else default
