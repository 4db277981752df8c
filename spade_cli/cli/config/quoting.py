"""A command line as people type it -> as Hydra wants it: flags first, paths and free text quoted."""

import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from spade_cli.errors import UserError
from spade_cli.files import expand_path

# Keys whose values are paths or people's words; Hydra's grammar would trip over blanks, commas, accents, =, (, #, ...
PATHS = (
    "image",
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
FREE_TEXT = (*PATHS, "target", "model.factory", "interpreter.cam_layer", "schedule.layers", "trojans", "conditions")
ONE_VALUE = ("schedule.layers", "trojans", "conditions")  # their commas separate entries, with -m as well
CONFIG_DIRS = ("--config-dir", "-cd")
FLAGS_WITH_VALUE = {  # and an example of the value
    **dict.fromkeys(CONFIG_DIRS, "FOLDER"),
    **dict.fromkeys(("--cfg", "-c"), "job"),
    **dict.fromkeys(("--config-name", "-cn", "--config-path", "-cp", "--package", "-p"), "VALUE"),
}
INFO = ("--info", "-i")  # of Hydra: its value may be left out
INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
MULTIRUN = ("-m", "--multirun")
PICTURE = re.compile(r".+\.(png|jpe?g|webp|tiff?|bmp|gif|heic|avif)", re.IGNORECASE | re.DOTALL)
TABLE = re.compile(r"schedule=(?P<files>.+\.ya?ml['\"]?)", re.DOTALL | re.IGNORECASE)  # schedule=PATH.yaml
SWEEP_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|str|int|float|bool|extend_list)\(")


def arrange(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split into (Hydra's flags, quoted overrides): Hydra wants its flags together, people write them anywhere.

    >>> arrange(["image=a b.png", "-m", "pruner=obs,sparsegpt"])
    (['-m'], ["image='a b.png'", 'pruner=obs,sparsegpt'])
    """
    flags, overrides = [], []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, _, value = argument.partition("=")
        if name in CONFIG_DIRS and value:
            flags += [name, str(expand_path(value))]
        elif argument in FLAGS_WITH_VALUE:
            flags += [argument, _value(argument, left)]
        elif argument in INFO:
            flags.append(f"--info={left.pop(0) if left and left[0] in INFO_TOPICS else INFO_TOPICS[0]}")
        elif argument.startswith("-") and argument != "-":
            flags.append(argument)
        else:
            overrides += _of_file(argument)
    sweep = any(flag in MULTIRUN for flag in flags)
    return flags, [quote(override, sweep) for override in overrides]


def config_dirs(flags: Sequence[str]) -> list[Path]:
    """The user's folders of YAML files, from the flags of a command line."""
    found = []
    for flag, following in zip_longest(flags, flags[1:], fillvalue=""):
        option, _, value = flag.partition("=")
        if option in CONFIG_DIRS:
            found.append(Path(value or following))
    return found


def _of_file(argument: str) -> list[str]:
    """`schedule=PATH.yaml` -> the schedule that reads a file, and which; anything else as it is."""
    match = TABLE.fullmatch(argument)
    return [argument] if match is None else ["schedule=table", f"schedule.file={match['files']}"]


def _value(flag: str, left: list[str]) -> str:
    if not left:
        raise UserError(f"{flag} has no value; write {flag} {FLAGS_WITH_VALUE[flag]}")
    return str(expand_path(left.pop(0))) if flag in CONFIG_DIRS else left.pop(0)


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
        value = str(expand_path(value))
    # `${` is a reference to OmegaConf; a backslash makes it plain text.
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)  # in Hydra's quotes a backslash counts only before a quote
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"'{value}'"
