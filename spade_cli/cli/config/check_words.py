"""Words that Hydra cannot take: flags that are none, words that are not KEY=VALUE, choices that are not names."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path

from spade_cli.cli.config.read_yaml import read_command, read_keys
from spade_cli.cli.config.typed_words import FREE_TEXT, PATHS, PICTURE
from spade_cli.cli.terminal import VIEWS
from spade_cli.errors import UserError
from spade_cli.files import expand_path

MANY = ("batch", "sweep", "implant")  # commands whose pictures are images=
MULTIRUN = ("-m", "--multirun")
OTHER_ROOT = ("--config-name", "-cn", "--config-path", "-cp")
COMBINATIONS = {  # what to do instead of -m
    "run": "leave out -m: spade sweep image=PATH KEY=VALUE,VALUE explains with every combination of settings; spade "
    "batch images=FOLDER explains several pictures",
    "sweep": "spade sweep combines by itself: leave out -m",
}


def check_flags(command: str, arguments: Sequence[str], flags: Sequence[str]) -> None:
    """UserError for a flag that there is not, with what it may have been meant as."""
    for flag in flags:
        name, _, value = flag.partition("=")
        if name in MULTIRUN:
            raise UserError(COMBINATIONS.get(command, f"leave out -m: spade {command} takes one value of each setting"))
        if name in OTHER_ROOT:
            raise UserError(
                f"{command}: --config-name and --config-path are not flags of spade; put your settings into "
                "FOLDER/experiment/mine.yaml, which begins with # @package _global_, and give --config-dir FOLDER "
                "+experiment=mine"
            )
        if name == "--cfg" and value != "job":
            raise UserError("--cfg prints the configuration; write --cfg job")
        if flag not in VIEWS and name not in ("--cfg", "--config-dir"):
            raise _unknown_flag(command, flag, list(arguments))


def _unknown_flag(command: str, flag: str, arguments: list[str]) -> UserError:
    name, equals, value = flag.partition("=")
    if not equals:
        following = arguments[arguments.index(flag) + 1 :][:1]
        value = following[0] if following and following[0][0:1] != "-" and "=" not in following[0] else "VALUE"
    meant, known = name.lstrip("-").replace("-", "_"), read_keys(command, [])
    near = [key for key in known if meant in (key, key.rpartition(".")[2])] or get_close_matches(meant, known, n=1)
    if near:
        return UserError(f"{name} is not a flag; settings are written KEY=VALUE: {near[0]}={value}")
    return UserError(f"{name} is not a flag; see spade {command} --help, where settings are written KEY=VALUE")


def check_words(command: str, overrides: Sequence[str], folders: list[Path]) -> None:
    """UserError for a word that is not KEY=VALUE, with what it may have been meant as."""
    for index, word in enumerate(overrides):
        key, equals, _ = word.partition("=")
        if not word.startswith("~") and (not key.strip("+") or not equals):
            before = overrides[index - 1] if index else ""
            raise UserError(f"{word!r} is not KEY=VALUE; {_guess_meaning(command, before, overrides[index:], folders)}")


def _guess_meaning(command: str, before: str, left: Sequence[str], folders: list[Path]) -> str:
    """What the first of the words that are left may have been meant as; `before`: the word before it."""
    word, *after = left
    if word.startswith("=") or before.endswith("=") or (after and after[0].startswith("=")):
        return "write KEY=VALUE without blanks around the ="
    groups = read_command(command, folders)[1]
    if choices := [f"{group.name}={word}" for group in groups if word in [choice.name for choice in group.choices]]:
        return f"did you mean {' or '.join(choices)}?"
    if word in read_keys(command, []):
        return f"give {word} its value: {word}=VALUE"
    key, _, value = before.partition("=")
    value = value.strip("'")
    if key in FREE_TEXT and not (key in PATHS and (PICTURE.fullmatch(value) or expand_path(value).exists())):
        rest = takewhile(lambda one: "=" not in one, left)
        return f"did you mean '{key}={' '.join([value, *rest])}'? a value with blanks needs quotes"
    if PICTURE.fullmatch(word) or "/" in word:
        return f"did you mean {'images' if command in MANY else 'image'}={word}?"
    return "write a setting and its value, such as pruner=obs"


def check_choices(command: str, overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Refuse `pruner=3` and the like: a group's choice is the name of one of its files."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString

    groups = {group.name: group for group in read_command(command, list(folders))[1]}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        group = groups.get(override.key_or_group)
        if group is None or override.is_delete() or override.is_sweep_override():
            continue
        if not isinstance(override.value(), str | QuotedString):
            a = "an" if group.name[0] in "aei" else "a"
            names = ", ".join(choice.name for choice in group.choices)
            raise UserError(f"{override.input_line}: {a} {group.name} is chosen by its name; there are {names}")
