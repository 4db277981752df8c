"""Random command lines and random files for the command: the same seed, the same inputs."""

import contextlib
import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from networks import photograph, small
from safetensors.torch import save_file

from spade_cli.cli import main
from spade_cli.cli.config.read_yaml import read_command

TINY = ("model=python", "model.factory=networks:small", "model.size=32")
QUICK = ("augmentation.samples=2", "interpreter=saliency", "interpreter.methods=[saliency]")
# What each command is given before anything is changed; {image} and {images} are there or not.
BASES = {
    "run": ("image={image}", *TINY, *QUICK),
    "batch": ("images={images}", "out=made", *TINY, *QUICK),
    "sweep": ("image={image}", "out=made", "seed=1,2", *TINY, *QUICK),
    "eval": ("data={images}", "out=made", "conditions=[dense]", "metrics=[fidelity]", "held_out=2", *TINY, *QUICK),
    "tune": ("data=nowhere", "out=made", *TINY, *QUICK),
    "doctor": ("image={image}", *TINY, *QUICK),
    "layers": TINY,
    "toy": ("out=nowhere/toy.png",),  # it always trains for seconds, so that only mistakes are tried
    "world": ("out=made", "count=1"),
    "implant": ("images=nowhere", "out=made", *TINY),
}
COSTLY = ("workers", "engine", "steps", "image", "images", "data", "resume")  # these are not changed in whole runs
WORDS = ("spade", "cat", "0", "layer4", "pruner=obs", "picture.png", "x" * 300, "ü", "猫", "a b", "--json", "-m", "-")
NUMBERS = (-1, 0, 1, 2, 3, 7, 0.5, -0.5, 1.5, 95, 123.675, 10**10, 10**20, -(10**20), 10**400, 1e-12, 1e300)
ODD = (
    *("nan", "inf", "-inf", "null", "true", "false", "", "''", '""', "???", "[]", "{}", "[[]]", "[null]", "[a,b]"),
    *(
        "[1,2,3]",
        "[0,0,0]",
        "[-1,nan,inf]",
        "[123.675,116.28,103.53]",
        "{a: 1}",
        "{a: {b: 2}}",
        "[1",
        "{a:",
        "a,b",
        "1,2",
    ),
    *("${seed}", "${nothing}", "${oc.env:NOWHERE}", "$(x)", "a=b", "=", ":", "#", "%", "*", "~", "~/x", "..", "."),
    *("'", '"', "\\", "a'b", "é", "0x10", "1e3", "1_000", "01", "+1", "12:30", "yes", "default", "none", "auto", "all"),
    "9" * 5000,
    *("/dev/null", "nowhere", "picture.png", "pictures", "small.pth", "labels.txt", "shares.yaml", "choice(1,2)"),
)
FLAGS = (
    "--quiet",
    "--plain",
    "--json",
    "-q",
    "--cfg",
    "--help",
    "-m",
    "--nonsense",
    "--config-dir",
    "--config-name=run",
    "--resolve",
)


@dataclass(frozen=True)
class Input:
    """One command line; `files` are written into the folder before it is given."""

    arguments: tuple[str, ...]
    files: dict[str, bytes]

    def __str__(self) -> str:
        sizes = {name: len(content) for name, content in self.files.items()}
        return f"{list(self.arguments)}" + (f" with files of so many bytes: {sizes}" if sizes else "")


class Generator:
    """Inputs by number; the files that are right are made once, in `home`."""

    def __init__(self, home: Path, seed: int) -> None:
        self.home, self.seed = home, seed
        self.settings = {verb: _setting_names(verb) for verb in BASES}
        self.good = _right_files(home)

    def input(self, number: int) -> Input:
        """The input of that number; it depends on the seed and the number alone."""
        chance = random.Random(f"{self.seed} {number}")
        makers: list[Callable[[random.Random], Input]] = [self._options] * 5 + [self._file] * 4 + [_plain]
        return chance.choice(makers)(chance)

    def _options(self, chance: random.Random) -> Input:
        """A command with one to three settings changed, misspelled, added or taken away."""
        verb = chance.choice([*BASES, "run", "run", "batch"])
        whole = chance.random() < 0.15  # with a picture that is there, so that what is accepted is done
        names = [name for name in self.settings[verb] if not (whole and name.split(".")[-1] in COSTLY)]
        base = _filled(BASES[verb], whole)
        changes = [_change(chance, names) for _ in range(chance.choice((1, 1, 2, 3)))]
        if chance.random() < 0.1:
            changes.append(chance.choice(FLAGS))
        if chance.random() < 0.1:
            changes.append(chance.choice(WORDS))
        touched = {change.lstrip("+~").partition("=")[0] for change in changes}
        kept = [word for word in base if word.partition("=")[0] not in touched]
        return Input((verb, *kept, *changes), {})

    def _file(self, chance: random.Random) -> Input:
        """A file that is damaged, cut off, or of another kind, where each command reads one."""
        arguments, written, endings = chance.choice(FILES)
        end = chance.choice(endings)
        written = written.format(end=end)
        same_kind = [name for name in self.good if Path(name).suffix == Path(written).suffix] or list(self.good)
        content = self.good[chance.choice(same_kind if chance.random() < 0.7 else list(self.good))]
        return Input(tuple(word.format(end=end) for word in arguments), {written: damage(chance, content)})


def _setting_names(verb: str) -> list[str]:
    own, groups = read_command(verb, [])
    inner = [setting.key for group in groups for choice in group.choices for setting in choice.settings]
    return list(dict.fromkeys([setting.key for setting in own] + [group.name for group in groups] + inner))


def _filled(words: tuple[str, ...], whole: bool) -> list[str]:
    image, images = ("picture.png", "pictures") if whole else ("nowhere.png", "nowhere")
    return [word.format(image=image, images=images) for word in words]


def _change(chance: random.Random, names: list[str]) -> str:
    name = chance.choice(names)
    if chance.random() < 0.08:
        place = chance.randrange(len(name))
        name = name[:place] + chance.choice("xyz_.") + name[place + 1 :]
    if chance.random() < 0.05:
        name += chance.choice((".more", ".0", "._target_", "@hydra"))
    start = chance.choice([""] * 12 + ["+", "++", "~"])
    value = chance.choice((chance.choice(NUMBERS), chance.choice(ODD), chance.choice(ODD), chance.choice(WORDS)))
    return f"{start}{name}={value}" if start != "~" or chance.random() < 0.2 else f"~{name}"


def _plain(chance: random.Random) -> Input:
    """Commands without Hydra, and words that are no command."""
    places = ["nowhere", "picture.png", "pictures", "done", ".", "", "..", *WORDS]
    numbers = ["0", "-1", "1", "nan", "x", "1e9"]
    lines: list[list[str]] = [
        ["export", "done", f"out={chance.choice(['out.pth', 'out.safetensors', 'nowhere/x.pt', 'pictures', ''])}"],
        ["export", chance.choice(places), chance.choice(["out.pth", "out.txt", ".pth", "nowhere/out.pth", "pictures"])],
        ["neurons", chance.choice(places), "--top", chance.choice(numbers)],
        ["neurons", "done", f"layers=[{chance.choice(WORDS)}]", f"steps={chance.choice(numbers)}", "top=1"],
        ["neurons", "done", "--layers", chance.choice(WORDS), "--steps", chance.choice(["1", "0", "x"])],
        ["diff", "done", chance.choice(places), "--steps", "1", "--top", "1"],
        ["list", chance.choice(places)],
        ["list", f"out={chance.choice(places)}"],
        ["cache", f"folder={chance.choice(places)}", chance.choice(["--clear", "--json", "clear"])],
        ["open", "--print", chance.choice(places)],
        [chance.choice(WORDS), chance.choice(places)],
        [chance.choice(list(BASES)), f"resume={chance.choice(places)}"],
    ]
    return Input(tuple(chance.choice(lines)), {})


PICTURES = ("png", "jpg", "webp", "tiff", "bmp", "gif", "txt", "avif", "ppm")
DRAWN = ("steps=1", "top=1")  # channels of a finished run
# What reads a file: the command, the damaged file's name, and endings it may have in the place of {end}.
FILES: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = (
    (("run", "image=bad.{end}", *TINY, *QUICK), "bad.{end}", PICTURES),
    (("run", "image=bad.{end}", *TINY, *QUICK), "bad.{end}", PICTURES),
    (("batch", "images=bad", "out=made", *TINY, *QUICK), "bad/a.{end}", PICTURES),
    (("doctor", "image=bad.{end}", *TINY, *QUICK), "bad.{end}", PICTURES),
    (("layers", *TINY, "model.weights=bad.{end}"), "bad.{end}", ("pth", "safetensors")),
    (("layers", *TINY, "model.weights=bad.{end}"), "bad.{end}", ("pth", "safetensors")),
    (("layers", *TINY, "model.labels=bad.{end}"), "bad.{end}", ("txt", "json")),
    (("batch", "images=bad.txt", "out=made", *TINY, *QUICK), "bad.txt", ("",)),
    (("run", "image=picture.png", "schedule=bad.yaml", *TINY, *QUICK), "bad.yaml", ("",)),
    (("run", "image=nowhere.png", "--config-dir", "own", "pruner=bad", *TINY), "own/pruner/bad.yaml", ("",)),
    (("run", "image=nowhere.png", "--config-dir", "own", "+experiment=bad", *TINY), "own/experiment/bad.yaml", ("",)),
    (("{end}", "resume=bad"), "bad/{end}.json", ("batch", "sweep")),
    (("eval", "resume=bad"), "bad/evaluation.json", ("",)),
    (("eval", "answers=bad.json", "study=bad"), "bad.json", ("",)),
    (("eval", "data=bad", "out=made", *TINY, *QUICK), "bad/labels.json", ("",)),
    (("list", "out={end}"), "{end}/summary.json", ("bad", "done")),
    (("neurons", "{end}", *DRAWN), "{end}/summary.json", ("bad", "done")),
    (("diff", "done", "done", *DRAWN), "done/summary.json", ("",)),
    (("export", "bad", "out=out.pth"), "bad/trace.safetensors", ("",)),
    (("neurons", "done", *DRAWN), "done/{end}", ("config.yaml", "image.png", "trace.safetensors")),
)


def damage(chance: random.Random, content: bytes) -> bytes:
    """Bytes of a right file: as they are, cut off, changed in places, doubled, or nothing but noise."""
    how = chance.choice(("same", "cut", "cut", "changed", "changed", "changed", "noise", "doubled", "empty"))
    if how == "cut":
        return content[: chance.randrange(len(content) + 1)]
    if how == "changed":
        changed = bytearray(content)
        # Most of what matters stands at the beginning.
        for _ in range(chance.choice((1, 2, 8, 64))):
            if changed:
                changed[min(int(len(changed) * chance.random() ** 3), len(changed) - 1)] = chance.randrange(256)
        return bytes(changed)
    if how == "noise":
        return chance.randbytes(chance.choice((1, 10, 1000, 20_000)))
    return {"same": content, "doubled": content * 2, "empty": b""}[how]


def _right_files(home: Path) -> dict[str, bytes]:
    """Files that are right, in `home`, which damaged ones are made of: name -> content."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "pictures").mkdir()
    picture = photograph()
    picture.save(home / "picture.png")
    picture.save(home / "pictures" / "a.png")
    found: dict[str, bytes] = {}
    for ending in ("png", "jpg", "webp", "tiff", "bmp", "gif", "ppm"):
        buffer = io.BytesIO()
        picture.save(buffer, {"jpg": "jpeg", "ppm": "ppm"}.get(ending, ending))
        found[f"picture.{ending}"] = buffer.getvalue()
    state = small().state_dict()
    torch.save(state, home / "small.pth")
    torch.save({"state_dict": state, "epoch": 3}, home / "nested.pth")
    torch.save(list(state.values()), home / "values.pth")
    save_file(state, home / "small.safetensors")
    names = ["one", "two", "three", "four", "five"]
    texts = {
        "labels.txt": "\n".join(names),
        "labels.json": json.dumps(names),
        "by_index.json": json.dumps({str(index): name for index, name in enumerate(names)}),
        "numbers.json": "[1, 2.5, null, true, {}]",
        "list.txt": "picture.png\nnowhere.png\n\n# not a picture\nhttp://127.0.0.1:9/x.png\n",
        "shares.yaml": "shares:\n  conv1: 0.5\n  conv2: 0.9\n",
        "wrong.yaml": "shares: {conv1: 95, head: -1, 3: x}\nmore: ${nothing}\n",
        "pruner.yaml": "# Mine.\ndefaults:\n  - _level\n  - _self_\n_target_: spade_cli.pruning.solvers.obs.obs\n",
        "target.yaml": "_target_: os.system\nsparsity: [1]\n",
        "batch.json": json.dumps(
            {"identity": {}, "arguments": ["images=nowhere", *TINY, *QUICK], "images": 1, "folder": "."}
        ),
        "about.json": json.dumps({"identity": [], "arguments": 3, "images": "x", "folder": 5, "command": None}),
        "summary.json": json.dumps({"prediction": {}, "image": {}, "model": {}, "seed": None}),
        "world.json": json.dumps([{"image": "a.png", "label": 3}]),
    }
    for name, text in texts.items():
        (home / name).write_text(text, encoding="utf-8")
    _a_run(home)
    for file in sorted(home.glob("*.*")) + [file for file in sorted((home / "done").iterdir()) if file.is_file()]:
        if file.stat().st_size < 500_000:
            found[file.name] = file.read_bytes()
    return found


def _a_run(home: Path) -> None:
    """A finished run in `home`/done, for what reads runs."""
    arguments = [f"image={home / 'picture.png'}", f"out={home / 'made'}", *TINY, *QUICK]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
        assert main(["run", *arguments]) == 0, told.getvalue()
    (run,) = (home / "made").glob("*/*")
    run.rename(home / "done")
    shutil.rmtree(home / "made")
