"""A command line as people type it -> as Hydra wants it: flags first, paths and free text quoted."""

import re
from collections.abc import Iterable

from spade_cli.paths import expanded

# Keys whose values are paths or people's words; Hydra's grammar would trip over blanks, commas, accents, =, (, #, ...
PATHS = (
    "image",
    "output",
    "images",
    "out",
    "data",
    "study",
    "answers",
    "model.weights",
    "model.labels",
    "calibration.save",
    "schedule.file",
)
FREE_TEXT = (*PATHS, "target", "model.factory", "schedule.layers", "trojans", "conditions")
ONE_VALUE = ("schedule.layers", "trojans", "conditions")  # their commas separate entries, with -m as well
CONFIG_DIRS = ("--config-dir", "-cd")
FLAGS_WITH_VALUE = (*CONFIG_DIRS, "--config-name", "-cn", "--config-path", "-cp", "--cfg", "-c", "--package", "-p")
MULTIRUN = ("-m", "--multirun")
TABLE = re.compile(r"schedule=(?P<files>.+\.ya?ml['\"]?)", re.DOTALL | re.IGNORECASE)  # schedule=PATH.yaml
SWEEP_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|str|int|float|bool|extend_list)\(")


def arrange(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split into (Hydra's flags, quoted overrides): Hydra wants its flags together, people write them anywhere.

    >>> arrange(["image=a b.png", "-m", "pruner=obs,sparsegpt"])
    (['-m'], ["image='a b.png'", 'pruner=obs,sparsegpt'])
    """
    flags, overrides = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name, _, value = argument.partition("=")
        if name in CONFIG_DIRS and value:
            flags += [name, str(expanded(value))]
        elif argument in FLAGS_WITH_VALUE:
            flags += [argument, *_expanded(argument, remaining)]
        elif argument.startswith("-") and argument != "-":
            flags.append(argument)
        else:
            overrides += _of_file(argument)
    sweep = any(flag in MULTIRUN for flag in flags)
    return flags, [quote(override, sweep) for override in overrides]


def _of_file(argument: str) -> list[str]:
    """`schedule=PATH.yaml` -> the schedule that reads a file, and which; anything else as it is."""
    match = TABLE.fullmatch(argument)
    return [argument] if match is None else ["schedule=table", f"schedule.file={match['files']}"]


def _expanded(flag: str, remaining: Iterable[str]) -> list[str]:
    value = next(iter(remaining), None)
    if value is None:
        return []
    return [str(expanded(value)) if flag in CONFIG_DIRS else value]


def quote(override: str, sweep: bool) -> str:
    """Quote the value of a path or free text; with `sweep` (-m) a comma separates values, each quoted on its own.

    >>> quote("image=héron (1)=x,.png", sweep=False)
    "image='héron (1)=x,.png'"
    >>> quote("image=a 1.png,b.png", sweep=True)
    "image='a 1.png','b.png'"
    """
    match = re.fullmatch(r"(\+{0,2}([\w./@]+))=(.*)", override, re.DOTALL)
    if match is None or match[2] not in FREE_TEXT or not match[3]:
        return override
    start, key, value = match.groups()
    if _is_quoted(value) or (key != "image" and value == "null"):
        return override
    if not sweep or key in ONE_VALUE:
        return f"{start}={_quoted(key, value)}"
    if SWEEP_FUNCTION.match(value) or "'" in value or '"' in value:  # Hydra's own grammar, as its manual has it
        return override
    return f"{start}=" + ",".join(_quoted(key, piece) for piece in value.split(","))


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _quoted(key: str, value: str) -> str:
    if key in PATHS and value.startswith("~"):
        value = str(expanded(value))
    # `${` is a reference to OmegaConf; a backslash makes it plain text.
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)  # in Hydra's quotes a backslash counts only before a quote
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"'{value}'"
