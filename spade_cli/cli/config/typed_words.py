"""The words of a command line as people type them -> as Hydra reads them: current words, lists, quotes, flags apart."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from spade_cli.cli import terminal
from spade_cli.cli.config.read_yaml import CONFIGS, read_command
from spade_cli.errors import UserError
from spade_cli.files import About, expand_path

# Keys whose values are paths or people's words; Hydra's grammar would trip over blanks, commas, accents, =, (, #, ...
PATHS = (
    *("image", "images", "out", "data", "study", "answers"),
    *("model.weights", "model.labels", "calibration.save", "interpreter.cache", "schedule.file"),
)
WHOLE = ("schedule.layers", "trojans", "conditions")  # their commas separate entries, not the values of a sweep
FREE_TEXT = (*PATHS, *WHOLE, "target", "model.factory", "interpreter.cam_layer")
TEXTS = ("model.prompts",)  # lists of people's words
ENTRY = re.compile(r"""\s*("[^"]*"\s*(?=,|$)|'[^']*'\s*(?=,|$)|[^,]+)""", re.DOTALL)
CONFIG_DIR, CFG = ("--config-dir", "-cd"), ("--cfg", "-c")
HELP = ("-h", "--help")
PICTURE = re.compile(r".+\.(png|jpe?g|webp|tiff?|bmp|gif|heic|avif)", re.IGNORECASE | re.DOTALL)
TABLE = re.compile(r"schedule=(?P<files>.+\.ya?ml['\"]?)", re.DOTALL | re.IGNORECASE)  # schedule=PATH.yaml

OUT = "out"
OLDER_OUT = ("output", "--output", "--out")
WITHOUT_HYDRA = ("list", "open", "export", "neurons", "diff", "cache", "completion")
NO_VALUE = ("", "all", "null", "none")  # of a list: taken as they are
THREE = ("model.mean", "model.std")  # lists whose default is null
MODEL = re.compile(r"model=(\w+(?:,\w+)*)")


def key(word: str) -> str:
    """The setting of a word.

    >>> key("+batch.size=2")
    'batch.size'
    """
    return word.lstrip("+~").partition("=")[0]


def group(word: str) -> str:
    """The first part of a word's setting.

    >>> group("+batch.size=2")
    'batch'
    """
    return key(word).partition(".")[0]


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags, --config-dir DIR and --cfg as one word each, and settings, which people write in any order.

    >>> split_flags(["image=a b.png", "-q", "--cfg", "job", "schedule=mine.yaml"])
    (['-q', '--cfg=job'], ['image=a b.png', 'schedule=table', 'schedule.file=mine.yaml'])
    """
    flags, words = list[str](), list[str]()
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if name in (*CONFIG_DIR, *CFG):
            if not (value or (left and not equals)):
                raise UserError(f"{name} has no value; write {name} {'job' if name in CFG else 'FOLDER'}")
            value = value or left.pop(0)
            flags.append(f"--cfg={value}" if name in CFG else f"--config-dir={expand_path(value)}")
        elif argument.startswith("-") and argument != "-":
            flags.append(argument)
        elif table := TABLE.fullmatch(argument):
            words += ["schedule=table", f"schedule.file={table['files']}"]
        else:
            words.append(argument)
    return flags, words


def config_dirs(flags: Sequence[str]) -> list[Path]:
    """The user's folders of YAML files, from the flags of a command line."""
    return [Path(flag.partition("=")[2]) for flag in flags if flag.startswith("--config-dir=")]


def quote(word: str) -> str:
    """Quote the value of a path or free text, so that Hydra takes it as it is.

    >>> quote("image=héron (1)=x,.png")
    "image='héron (1)=x,.png'"
    """
    match = re.fullmatch(r"(\+{0,2}([\w./@]+))=(.+)", word, re.DOTALL)
    if match is not None and match[2] in TEXTS:
        return f"{match[1]}={quote_entries(match[3])}"
    if match is None or match[2] not in FREE_TEXT:
        return word
    start, name, value = match.groups()
    if re.fullmatch(r"'.*'|\".*\"", value, re.DOTALL) or (name != "image" and value == "null"):
        return word
    if name in PATHS and value.startswith("~"):
        value = str(expand_path(value))
    return f"{start}={quote_value(value)}"


def quote_value(value: str) -> str:
    """A text as Hydra's grammar quotes it."""
    # `${` is a reference to OmegaConf; a backslash makes it plain text.
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)  # in Hydra's quotes a backslash counts only before a quote
    value = re.sub(r"(\\+)$", r"\1\1", value)
    return f"'{value}'"


def quote_entries(value: str) -> str:
    """A list of texts with each in quotes; several lists, which are the values of a sweep, as they are.

    >>> quote_entries('[a dog (wet),"a cat, asleep"]')
    "['a dog (wet)','a cat, asleep']"
    """
    inner = re.fullmatch(r"\[(.*)\]", value.strip(), re.DOTALL)
    if inner is None or re.search(r"\]\s*,\s*\[", value):
        return value
    entries = [entry.strip() for entry in ENTRY.findall(inner[1])]
    bare = [entry[1:-1] if re.fullmatch(r"\".*\"|'.*'", entry, re.DOTALL) else entry for entry in entries]
    return f"[{','.join(map(quote_value, bare))}]"


def rewrite_words(verb: str, arguments: Sequence[str]) -> list[str]:
    """A command line in the words that the help has: out=, lists in brackets, torchvision's networks by their names.

    >>> rewrite_words("run", ["keep=report", "out=kept"])
    ['keep=[report]', 'out=kept']
    """
    words = list(_rename_out(verb, arguments))
    if verb in WITHOUT_HYDRA or {*HELP} & set(words):
        return words
    folders = config_dirs(split_flags(words)[0])
    words = [part for word in words for part in _name_model(word, folders)]
    if verb == "sweep":
        return words  # a comma is between values there
    lists = _lists(verb, folders)
    return [_add_brackets(word) if key(word) in lists else word for word in words]


def _rename_out(verb: str, arguments: Sequence[str]) -> Iterator[str]:
    """`output=X`, `--output X` and `--out X` as `out=X`, with a hint."""
    left = list(arguments)
    while left:
        argument = left.pop(0)
        name, equals, value = argument.partition("=")
        if name not in OLDER_OUT or (verb == "diff" and name != "--out") or (name == "output" and not equals):
            yield argument
            continue
        if not equals and not left:
            raise UserError(f"{name} has no value; write {OUT}=FOLDER")
        value = value if equals else left.pop(0)
        terminal.hint(f"write {OUT}={value}; {name} is an older word for it")
        yield f"{OUT}={value}"


def _name_model(word: str, folders: Sequence[Path]) -> list[str]:
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
    settings = (*own, *(setting for group in groups for choice in group.choices for setting in choice.settings))
    return {setting.key for setting in settings if setting.default.startswith("[")} | set(THREE)


def _add_brackets(word: str) -> str:
    """`interpreter.methods=saliency,lrp` with the brackets of a list."""
    start, _, value = word.partition("=")
    if word.startswith("~") or value in NO_VALUE or re.search(r"[\[\]{}()'\"$]", value):
        return word
    return f"{start}=[{value}]"


def resume(
    arguments: Sequence[str], again: Callable[[list[str]], int], find_about: Callable[[str], About], *free: str
) -> int | None:
    """Give the command of resume=FOLDER again; its exit code, or None where the command line has no resume=.

    find_about: what the folder, an absolute path or a URL, says of its command; free: groups that may be given anew.
    """
    if "resume=" in arguments:  # not taken for a new start, which may work for hours
        raise UserError("resume= names no folder; give resume=FOLDER, or leave it out to start anew")
    folder = next((word.partition("=")[2] for word in arguments if word.startswith("resume=")), "null")
    words = [word for word in arguments if not word.startswith("resume=")]
    if folder == "null" or {*HELP} & set(words):
        return None
    if other := [word for word in words if word not in terminal.VIEWS and group(word) not in free]:
        may = f" ({', '.join(free)}, --quiet, --plain and --json may be given)" if free else ""
        raise UserError(f"resume={folder} resumes with its own command; leave out {' '.join(other)}{may}")
    from spade_cli.images.download import is_url

    out = folder if is_url(folder) else str(expand_path(folder).resolve())
    about = find_about(out)
    here, there = Path.cwd(), Path(about.folder)
    if not there.is_dir():
        raise UserError(
            f"resume={out}: its command was given in {there}, which is gone; give that command again with out={out}: "
            f"{about.command}"
        )
    instead = {key(word) for word in words} | {"out"}
    # A choice of another engine takes the settings of the old one with it.
    groups = tuple(f"{name}." for name in instead if "." not in name)
    kept = [word for word in about.arguments if key(word) not in instead and not key(word).startswith(groups)]
    os.chdir(there)
    try:
        return again([*kept, *words, f"out={out}"])
    finally:
        os.chdir(here)
