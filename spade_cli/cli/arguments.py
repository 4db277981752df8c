"""Commands that need no configuration: words, KEY=VALUE settings and flags; their help, and mistakes as one line."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from spade_cli.cli import own_stdout, terminal
from spade_cli.cli.config.check_values import one_of, whole
from spade_cli.cli.config.help import line
from spade_cli.errors import UserError
from spade_cli.files import expand_path

KEY = re.compile(r"(?P<key>[A-Za-z][\w.-]*)=(?P<value>.*)", re.DOTALL)
COMMA = re.compile(r",(?![^\[]*\])")  # between the patterns of a list, not within one: layer[3,4].*


def read_text(key: str, text: str) -> str:
    """A text that was given."""
    if not text:
        raise UserError(f"{key} is empty; give {key}=VALUE or leave it out")
    return text


def read_path(key: str, text: str) -> Path:
    """A path, with `~` as the home folder."""
    return expand_path(read_text(key, text))


def read_count(key: str, text: str) -> int:
    """A whole number of at least 1."""
    return whole(key, int(text) if re.fullmatch(r"[+-]?\d+", text) else text, 1)


def read_switch(key: str, text: str) -> bool:
    """`true` or `false`."""
    return one_of(key, text, ("true", "false")) == "true"


def read_list(key: str, text: str) -> list[str]:
    """`[a,b]`, or the same without its brackets."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    found = [entry.strip().strip("'\"") for entry in COMMA.split(inner)]
    return [entry for entry in found if entry]


@dataclass(frozen=True)
class Setting:
    """What is written KEY=VALUE."""

    key: str
    default: str  # as typed; "" for one that has none
    meaning: str  # "" for an older word that the help leaves out
    read: Callable[[str, str], Any] = read_text  # (key, text) -> value; UserError for what makes no sense


@dataclass(frozen=True)
class Command:
    """What a command command."""

    verb: str
    doc: str | None  # of its module: the first line says what it does
    usage: str
    words: tuple[tuple[str, str], ...] = ()  # (name, meaning) of what has no key, in order; "" as for a setting
    settings: tuple[Setting, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()
    examples: tuple[str, ...] = ()

    def setting(self, key: str) -> Setting | None:
        """The setting of this key."""
        return next((one for one in self.settings if one.key == key), None)


@dataclass
class Arguments:
    """What was typed."""

    words: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)  # by key; only those that were given
    flags: tuple[str, ...] = ()
    views: tuple[str, ...] = ()

    def word(self, number: int) -> str | None:
        """A word by its place, as a path; None where it was not given."""
        return str(expand_path(self.words[number])) if number < len(self.words) else None


def read_arguments(command: Command, arguments: Sequence[str]) -> Arguments | None:
    """What was typed, with defaults filled in; None for --help, which is printed. Raises UserError."""
    if {"-h", "--help"} & set(arguments):
        own_stdout.say(_manual(command))
        return None
    given, older, flags = Arguments(), list[str](), list[str]()
    left = list(arguments)
    while left:
        argument = left.pop(0)
        key, equals, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or argument == "-":
            _read_word(command, argument, given)
        elif argument in terminal.VIEWS or argument in {flag for flag, _ in command.flags}:
            flags.append(argument)
        elif (setting := command.setting(key)) is None or not argument.startswith("--"):
            raise UserError(f"{argument} is not a flag of spade {command.verb}; {_suggest(command, key)}")
        else:
            value = value if equals else ",".join(_read_values(setting, left))
            given.settings[key] = setting.read(key, value)
            older += [f"{key}={value}"] if setting.meaning else []
    if older:
        terminal.hint(f"write {' '.join(older)}; --{older[0].partition('=')[0]} is an older way")
    if len(given.words) > len(command.words):
        raise UserError(
            f"spade {command.verb} takes {_name_words(command)}, and found {' '.join(map(repr, given.words))}; "
            "a name with blanks needs quotes"
        )
    defaults = {one.key: one.read(one.key, one.default) for one in command.settings if one.default}
    given.settings = defaults | given.settings
    given.views = tuple(flag for flag in flags if flag in terminal.VIEWS)
    given.flags = tuple(flag for flag in flags if flag not in terminal.VIEWS)
    return given


def _read_word(command: Command, argument: str, given: Arguments) -> None:
    match = KEY.fullmatch(argument)
    setting = command.setting(match["key"]) if match else None
    if match and setting:
        given.settings[setting.key] = setting.read(setting.key, match["value"])
    elif match is None or expand_path(argument).exists():
        given.words.append(argument)
    else:
        raise UserError(f"{match['key']} is not a setting of spade {command.verb}; {_suggest(command, match['key'])}")


def _read_values(setting: Setting, left: list[str]) -> Iterator[str]:
    """What followed an older `--KEY`: one value, or all words up to the next setting or flag where it takes a list."""
    if not left:
        raise UserError(f"--{setting.key} has no value; write {setting.key}=VALUE")
    yield left.pop(0)
    while setting.read is read_list and left and not left[0].startswith("-") and not KEY.fullmatch(left[0]):
        yield left.pop(0)


def _suggest(command: Command, key: str) -> str:
    keys, flags = [one.key for one in command.settings if one.meaning], [flag for flag, _ in command.flags]
    if near := get_close_matches(key, keys, n=1):
        return f"did you mean {near[0]}=VALUE?"
    if near := get_close_matches(f"--{key}", [*flags, *terminal.VIEWS], n=1):
        return f"did you mean {near[0]}?"
    settings = f"it takes {', '.join(f'{key}=' for key in keys)}; " if keys else ""
    return f"{settings}see spade {command.verb} --help"


def _name_words(command: Command) -> str:
    return " and ".join(name for name, _ in command.words) or "no bare word"


def _manual(command: Command) -> str:
    summary = (command.doc or "").splitlines()[0]
    parts = [summary, f"usage: {command.usage}"]
    rows = [line(*word) for word in dict.fromkeys(command.words) if word[1]]
    rows += [line(f"{one.key}={one.default or '(required)'}", one.meaning) for one in command.settings if one.meaning]
    flags = (*command.flags, *terminal.MEANINGS)
    parts += ["\n".join(rows), "flags\n" + "\n".join(line(*flag) for flag in flags)]
    return "\n\n".join([*parts, "examples\n" + "\n".join(f"  {example}" for example in command.examples)])
