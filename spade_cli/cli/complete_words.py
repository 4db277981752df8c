"""What a shell offers at TAB: commands, settings, their choices and values, files, runs. It imports nothing heavy."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from spade_cli.cli import VERBS, load_verb, summarize_verb
from spade_cli.cli.arguments import Command
from spade_cli.cli.config.help import FLAGS
from spade_cli.cli.config.read_yaml import read_command
from spade_cli.cli.config.typed_words import CONFIG_DIR, PICTURE, config_dirs, split_flags
from spade_cli.cli.terminal import MEANINGS
from spade_cli.errors import SpadeError
from spade_cli.files import expand_path

RUNS = Path("outputs")
MOST_RUNS = 50  # the latest ones; more would fill the screen
METHODS = (
    *("saliency", "input_x_gradient", "deeplift", "lrp", "guided_backprop", "guided_gradcam"),
    *("lime", "occlusion", "integrated_gradients", "gradient_shap", "gradcam", "hirescam"),
    *("score_cam", "rise", "gradient_rollout", "legrad"),
)
CURVES = ("insertion", "deletion")
LOCALISATION = tuple(f"{what}_{how}" for what in ("trojan", "object") for how in ("auc", "mass", "rank", "pointing"))
VALUES = {  # what a setting may be; the functions that check them need torch, so the words stand here once more
    "device": ("auto", "cpu", "cuda", "mps"),
    "target": ("predicted",),
    "keep": ("trace", "report"),
    "model.library": ("torchvision", "timm", "huggingface", "clip", "openclip"),
    "model.weights": ("default", "none"),
    "model.channels": ("1", "3"),
    "model.output": ("auto", "softmax", "sigmoid"),
    "calibration.precision": ("auto", "float32", "bfloat16"),
    "calibration.rows_per_column": ("32", "all"),
    "pruner.granularity": ("weight", "kernel"),
    "interpreter.methods": ("all", *METHODS, "smoothgrad"),
    "interpreter.scale": ("own", "common"),
    "interpreter.visualization": ("spectrum", "lucent", "accentuation"),
    "engine.cluster": ("slurm", "local"),
    "data": ("world",),
    "metric": (*CURVES, *LOCALISATION),
    "metrics": ("localisation", "insertion", "fidelity", "sanity", "concepts"),
    "controls": ("edges", "noise"),
    "fills": ("mean", "blurred"),
    "aggregation": ("fixed", "best"),
    "tuner": ("tpe", "greedy"),
    **dict.fromkeys(("workers", "batch.size"), ("auto",)),
}
NOTHING = r"(?!)"  # folders alone
FILES = {  # settings that name files, and which files; folders are offered for all of them
    "image": PICTURE.pattern,
    "images": rf"{PICTURE.pattern}|.+\.txt",
    "model.weights": r".+\.(pth|pt|ckpt|bin|safetensors|npz)",
    "model.labels": r".+\.(txt|json)",
    "model.factory": r".+\.py",
    "schedule": r".+\.ya?ml",
    "schedule.file": r".+\.ya?ml",
    "answers": r".+\.json",
    **dict.fromkeys(("out", "data", "study", "resume", "calibration.save", "interpreter.cache"), NOTHING),
    **dict.fromkeys(("cache", "folder"), NOTHING),  # of spade neurons and spade cache
}


class Offer(NamedTuple):
    """A whole word that may stand where the cursor is; one that ends in = . or / is to be gone on with."""

    word: str
    meaning: str = ""


def complete(words: Sequence[str]) -> list[Offer]:
    """Offers for the last of the words, which are those after `spade`; it may be empty. Mistakes offer nothing."""
    *before, word = words
    try:
        return [offer for offer in _list_offers(before, word) if offer.word.startswith(word) and offer.word != word]
    except (SpadeError, OSError):  # of the words before, or of a folder that may not be read
        return []


def _list_offers(before: Sequence[str], word: str) -> Iterator[Offer]:
    if not before or before == ["help"]:
        yield from (Offer(verb, summarize_verb(verb)) for verb in VERBS)
        yield from (Offer(flag) for flag in ("--help", "--version"))
    elif before[0] not in VERBS:
        return
    elif before[-1] in CONFIG_DIR:
        yield from _list_files(word, NOTHING)
    elif before[-1] == "--cfg":
        yield Offer("job", "print the configuration and stop")
    elif isinstance(command := getattr(load_verb(before[0]), "COMMAND", None), Command):
        yield from _offer_plain(command, before[1:], word)
    else:
        yield from _offer_composed("run" if before[0] == "demo" else before[0], before[1:], word)


def _offer_plain(command: Command, before: Sequence[str], word: str) -> Iterator[Offer]:
    """For a command without YAML files."""
    key, equals, _ = word.partition("=")
    if word.startswith("-"):
        yield from _list_flags((*command.flags, *MEANINGS))
    elif equals:
        yield from _list_values(key, word)
    else:
        names = {name for name, meaning in command.words if meaning}
        if "RUN" in names:
            yield from _list_runs(before)
        if "SHELL" in names:
            yield from (Offer(shell) for shell in ("bash", "zsh", "fish"))
        yield from _list_keys({one.key: one.meaning for one in command.settings if one.meaning}, before, word)


def _offer_composed(command: str, before: Sequence[str], word: str) -> Iterator[Offer]:
    """For a command that Hydra composes of YAML files: keys level by level, of the choices that were typed."""
    if word.startswith("-"):
        yield from _list_flags(FLAGS)
        return
    folders = config_dirs(split_flags(before)[0])
    own, groups = read_command(command, folders)
    typed = dict(one.lstrip("+").partition("=")[::2] for one in before if "=" in one)
    keys = {setting.key: setting.meaning for setting in own if setting.default}
    settings = {
        setting.key: setting
        for group in groups
        for choice in group.choices
        if choice.name == typed.get(group.name, group.default)
        for setting in choice.settings
        if setting.default
    }
    key, equals, _ = word.lstrip("+").partition("=")
    if not equals:
        keys |= {group.name: f"which {group.name}: {group.default} or another" for group in groups}
        yield from _list_keys(keys | {name: one.meaning for name, one in settings.items()}, before, word)
        return
    choices = next((group.choices for group in groups if group.name == key), ())
    yield from _list_pieces(word, [Offer(choice.name, choice.meaning) for choice in choices])
    default = next((one.default for one in (*own, *settings.values()) if one.key == key), "")
    if default in ("true", "false"):
        yield from (Offer(f"{key}={value}") for value in ("true", "false"))
    yield from _list_values(key, word)


def _list_flags(flags: Sequence[tuple[str, str]]) -> Iterator[Offer]:
    """`-q, --quiet` and `--config-dir DIR` as what is typed; threads=N is none."""
    for names, meaning in (*flags, ("--help", "what the command does and takes")):
        yield from (Offer(name, meaning) for name in re.findall(r"--[a-z-]+", names))


def _list_keys(keys: dict[str, str], before: Sequence[str], word: str) -> Iterator[Offer]:
    """Keys one level further than the word: `model=` and `model.`, behind it `model.weights=`. None a second time."""
    given = {one.lstrip("+").partition("=")[0] for one in before}
    plus = word[: len(word) - len(word.lstrip("+"))]
    word = word.lstrip("+")
    sections = dict[str, str]()
    for key, meaning in (keys | {"threads": dict(MEANINGS)["threads=N"]}).items():
        rest = key.removeprefix(word)
        if "." in rest and key.startswith(word):
            sections.setdefault(key[: len(word) + rest.index(".") + 1], "settings of it")
        elif key not in given:
            yield Offer(f"{plus}{key}=", meaning)
    yield from (Offer(f"{plus}{section}", meaning) for section, meaning in sections.items())


def _list_values(key: str, word: str) -> Iterator[Offer]:
    """What a setting may be: words that are known, and files."""
    yield from _list_pieces(word, [Offer(value) for value in VALUES.get(key.lstrip("+"), ())])
    if key.lstrip("+") in FILES:
        start = word.index("=") + 1
        yield from (Offer(word[:start] + path) for path, _ in _list_files(word[start:], FILES[key.lstrip("+")]))


def _list_pieces(word: str, values: Sequence[Offer]) -> Iterator[Offer]:
    """Values behind the last = [ or comma of the word: the last entry of a list."""
    start = max(word.rfind(sign) for sign in "=[,") + 1
    there = re.split(r"[=\[,]", word[:start])
    yield from (Offer(word[:start] + value, meaning) for value, meaning in values if value not in there[1:])


def _list_files(typed: str, pattern: str) -> Iterator[Offer]:
    """Folders, and files whose names fit, in the folder that the path names so far; hidden ones if a dot is typed."""
    place, _, start = typed.rpartition("/")
    place = f"{place}/" if "/" in typed else ""
    with os.scandir(expand_path(place) if place else Path()) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith(".") and not start.startswith("."):
                continue
            if entry.is_dir():
                yield Offer(f"{place}{entry.name}/")
            elif re.fullmatch(pattern, entry.name, re.IGNORECASE):
                yield Offer(place + entry.name)


def _list_runs(before: Sequence[str]) -> Iterator[Offer]:
    """Names of the runs in out=, the latest first."""
    from spade_cli.report.runs import find_runs

    typed = next((expand_path(word.partition("=")[2]) for word in before if word.startswith("out=")), RUNS)
    found = find_runs(typed if typed.is_dir() else RUNS)  # the out= of some commands is a file to write
    yield from (Offer(run.name) for run in found[: -MOST_RUNS - 1 : -1])
