"""What people type -> what is meant: older words for one thing, lists without brackets, names of torchvision."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from spade_cli.cli import terminal
from spade_cli.cli.config.options import CONFIGS, read_command
from spade_cli.cli.config.quoting import MULTIRUN, arrange, config_dirs
from spade_cli.errors import UserError

OUT = "out"
OLDER = ("output", "--output", "--out")  # for out=
WITHOUT_HYDRA = ("list", "open", "export", "neurons", "diff")
NO_VALUE = ("", "all", "null", "none")  # of a list: taken as they are
THREE = ("model.mean", "model.std")  # lists whose default is null
MODEL = re.compile(r"model=(\w+(?:,\w+)*)")


def understood(verb: str, arguments: Sequence[str]) -> list[str]:
    """A command line in the words that the help has; says so once where it had others.

    >>> understood("run", ["image=cat.jpg", "out=kept"])
    ['image=cat.jpg', 'out=kept']
    """
    words = list(_renamed(verb, arguments))
    if verb in WITHOUT_HYDRA or {"-h", "--help"} & set(words):
        return words
    flags, _ = arrange(words)
    folders = config_dirs(flags)
    words = [part for word in words for part in _known_model(word, folders)]
    if verb == "sweep" or set(MULTIRUN) & set(flags):
        return words  # a comma is between values there
    lists = None
    for index, word in enumerate(words):
        if "=" in word and not word.startswith("-"):
            lists = _lists(verb, folders) if lists is None else lists
            words[index] = _bracketed(word, lists)
    return words


def _renamed(verb: str, arguments: Sequence[str]) -> Iterator[str]:
    """`output=X`, `--output X` and `--out X` as `out=X`."""
    left = list(arguments)
    while left:
        argument = left.pop(0)
        key, equals, value = argument.partition("=")
        if key not in OLDER or (verb == "diff" and key != "--out") or (key == "output" and not equals):
            yield argument
            continue
        if not equals and not left:
            raise UserError(f"{key} has no value; write {OUT}=FOLDER")
        value = value if equals else left.pop(0)
        terminal.hint(f"write {OUT}={value}; {key} is an older word for it")
        yield f"{OUT}={value}"


def _known_model(word: str, folders: Sequence[Path]) -> list[str]:
    """`model=resnet34`, which has no YAML file, as the network of torchvision that it names; several, likewise."""
    match = MODEL.fullmatch(word)
    names = match[1].split(",") if match else []
    there = {file.stem for folder in (*folders, CONFIGS) for file in (folder / "model").glob("*.yaml")}
    if set(names) <= there:
        return [word]
    import torchvision  # seconds; such a run needs it in any case

    found = torchvision.models.list_models(module=torchvision.models)
    return ["model=torchvision", f"model.name={','.join(names)}"] if set(names) <= set(found) else [word]


def _lists(verb: str, folders: list[Path]) -> set[str]:
    """The settings of a command that are lists."""
    own, groups = read_command("run" if verb == "demo" else verb, folders)
    options = (*own, *(option for group in groups for choice in group.choices for option in choice.options))
    return {option.key for option in options if option.default.startswith("[")} | set(THREE)


def _bracketed(word: str, lists: set[str]) -> str:
    """`interpreter.methods=saliency,lrp` with the brackets of a list."""
    key, _, value = word.partition("=")
    if key.lstrip("+") not in lists or value in NO_VALUE or re.search(r"[\[\]{}()'\"$]", value):
        return word
    return f"{key}=[{value}]"
