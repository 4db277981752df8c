"""Hydra's and OmegaConf's errors -> one line that says what was asked, what was found and what to do."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from spade_cli.cli.config.read_yaml import YamlSetting, read_command
from spade_cli.errors import UserError

# ValueError: a file that is not UTF-8, a number of thousands of digits. TypeError: ~LIST.0.
COMPOSING_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError, TypeError)
SEVERAL = r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: 1\.| requires)"


def translate(error: Exception, command: str, overrides: Sequence[str], folders: Sequence[Path]) -> UserError:
    """The user's mistake behind one of Hydra's errors."""
    text = re.sub(r"See https\S+.*|full_key:.*|object_type=.*", "", f"{error} {error.__cause__ or ''}")
    text = " ".join(text.split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error)
    if isinstance(error, OverrideParseException):
        return _bad_grammar(error.override)
    if isinstance(error, ConfigCompositionException) and (found := _composition(text, command, overrides, folders)):
        return found
    if isinstance(error, InterpolationResolutionError):
        return UserError(
            f"the configuration refers to something that is not there ({text}); write \\${{ for plain text"
        )
    if isinstance(error, YAMLError):
        return UserError(f"a YAML file cannot be read: {text}; correct it, or leave out --config-dir")
    return UserError(f"the command line or a YAML file does not compose: {text}; see spade {command} --help")


def _composition(text: str, command: str, overrides: Sequence[str], folders: Sequence[Path]) -> UserError | None:
    """What Hydra says of words that do not fit the configuration, in spade's."""
    if match := re.search(r"Could not override '([^']*)'", text):
        return _unknown_key(match[1], command, overrides, folders)
    if match := re.search(SEVERAL, text):
        sweep = "; spade sweep explains with each of them" if command in ("run", "batch") else ""
        return UserError(
            f"{match[1]} has several values, and spade {command} takes one{sweep}; a list is written KEY=[a,b]"
        )
    if match := re.search(r"An item is already at '([^']*)'", text):
        return UserError(f"+{match[1]}: {match[1]} is a setting already; write {match[1]}=VALUE, without the +")
    if match := re.search(r"Could not delete from config\. (.*?)\.?$", text):
        return UserError(f"~ takes a setting out: {match[1]}; spade {command} --help lists the settings")
    return None


def _unknown_choice(error: MissingConfigException) -> UserError:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return UserError(f"there is no YAML file called {choice}; check the defaults of your own files")
    choices = [str(one) for one in error.options or () if not str(one).startswith("_")]
    if not choices:
        return UserError(f"{group}={choice}: there is no group called {group}; see spade run --help")
    near = get_close_matches(choice, choices, n=1)
    hint = f"did you mean {group}={near[0]}? " if near else ""
    more = "; any other of torchvision's: model=torchvision model.name=NAME" if group == "model" else ""
    return UserError(f"{group}={choice} is unknown; {hint}there are {', '.join(choices)}{more}")


def _bad_grammar(override: str) -> UserError:
    key, _, value = override.partition("=")
    if value[:1] in ("[", "{"):
        return UserError(
            f"{override!r} cannot be read: close its brackets; a list is [a,b] and a mapping {{a: 1, b: 2}}"
        )
    plain = value.replace("'", "")
    return UserError(f"{override!r} cannot be read: the value needs quotes of its own, such as \"{key}='{plain}'\"")


def _unknown_key(key: str, command: str, overrides: Sequence[str], folders: Sequence[Path]) -> UserError:
    own, groups = read_command(command, list(folders))
    typed = dict(word.partition("=")[::2] for word in overrides)  # of several choices, the last
    chosen = {group.name: typed.get(group.name, group.default) for group in groups}
    elsewhere = [f"{g.name}={c.name}" for g in groups for c in g.choices if key in _keys(c.settings)]
    if elsewhere:
        group = key.partition(".")[0]
        return UserError(f"{key} is not a setting of {group}={chosen[group]}; it belongs to {' and '.join(elsewhere)}")
    known = [g.name for g in groups] + _keys(own)
    known += [k for g in groups for c in g.choices if c.name == chosen[g.name] for k in _keys(c.settings)]
    near = get_close_matches(key, known, n=1) or [k for k in known if k.endswith(f".{key.rpartition('.')[2]}")]
    hint = f"did you mean {near[0]}=...?" if near else f"spade {command} --help lists them all"
    return UserError(f"{key} is not a setting; {hint}")


def _keys(settings: Sequence[YamlSetting]) -> list[str]:
    return [setting.key for setting in settings]
