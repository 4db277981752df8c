"""Every command that a page shows is read, composed and checked as if it were typed; the cheap ones are run."""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from networks import photograph

from spade_cli.cli import START, VERBS, load_verb, main
from spade_cli.cli.arguments import Command, read_arguments
from spade_cli.cli.config.read_yaml import CONFIGS, read_keys
from spade_cli.cli.config.typed_words import rewrite_words

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Blocks that are no commands: what `spade demo` says, and the paper's figure in words.
ANSWERS = ("dense     bolt", "image -> samples")
# What is read, but neither composed nor run, and why.
NOT_COMPOSED = {
    r"spade (batch|sweep|eval) resume=": "needs what a stopped one left; tests/batch and tests/evaluation resume such",
    r"(git|apt|apt-get|docker) ": "a program that is not spade's",
    r"twine ": "asks a registry, or needs what the line before built; scripts/check_release.py runs it",
}
# Where the work of a command begins: there the test stops it.
WORK = (
    *("spade_cli.run.pipeline.run", "spade_cli.batch.batch.batch", "spade_cli.tuning.tune.tune"),
    *("spade_cli.evaluation.evaluate.evaluate", "spade_cli.evaluation.study.build_study.build_study"),
    *("spade_cli.evaluation.study.score_answers.score", "spade_cli.images.find.find_pictures"),
    *("spade_cli.run.request.load_on_device", "spade_cli.models.load_model"),
    *("spade_cli.world.dataset.write_world", "spade_cli.world.toy.train_network"),
)
CHEAP = ("spade --help", "spade --version", "spade completion", "spade cache")
CASES = []  # (page, command)


class WorkBegins(BaseException):
    """The command line was right: the command begins to work. No command catches it."""


def blocks(text: str) -> Iterator[str]:
    """Indented and fenced blocks of a page, without their fences and their indentation; none in Python."""
    text = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)  # else what is between two of them is a block
    for block in re.findall(r"(?:^|\n)```(?:bash|sh|console)?\n(.*?)```", text, re.DOTALL):
        yield block
    for block in re.findall(
        r"(?:^|\n\n)((?: {4}.*\n)(?:(?: {4}.*)?\n)*)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    ):
        yield re.sub(r"^ {4}", "", block, flags=re.MULTILINE)


def commands(block: str) -> list[str]:
    """The lines of a block, continued ones joined, several on one line apart."""
    joined = re.sub(r" *\\\n\s*", " ", block)
    parts = [part for line in joined.splitlines() for part in re.split(r" && |; (?=python |spade )", line)]
    return [shlex.join(words) for part in parts if (words := shlex.split(part, comments=True))]


for _page in PAGES:
    for _block in blocks(_page.read_text(encoding="utf-8")):
        if not _block.startswith(ANSWERS):
            CASES += [pytest.param(command, id=f"{_page.stem}: {command[:60]}") for command in commands(_block)]
for _verb in VERBS:
    _plain = getattr(load_verb(_verb), "COMMAND", None)
    for _example in _plain.examples if _plain else getattr(load_verb(_verb), "EXAMPLES", ()):
        _line = re.sub(r"   \(.*\)$", "", _example)
        CASES.append(pytest.param(_line, id=f"{_verb} --help: {_line[:60]}"))
for _line in re.findall(r"^  (spade [\w =./]+?)   ?", START, re.MULTILINE):
    CASES.append(pytest.param(_line, id=f"spade: {_line}"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files that the pages' commands name."""
    monkeypatch.chdir(tmp_path)
    for name in ("mypackage/__init__.py", "tuned/schedule.yaml", "photographs/labels.json", "mine/pruner/mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "tuned/schedule.yaml").write_text("shares: {layer4.1: 0.95}\n")
    (tmp_path / "mypackage/__init__.py").write_text("def mymethod(network, image, target):\n    return image[0]\n")
    (tmp_path / "photographs/labels.json").unlink()
    (tmp_path / "mine/pruner/mine.yaml").write_text((CONFIGS / "pruner" / "obs.yaml").read_text(encoding="utf-8"))
    photograph().save("cat.jpg")
    sys.modules.pop("mypackage", None)

    def stop(*_: Any, **__: Any) -> NoReturn:
        raise WorkBegins

    for place in WORK:
        module, _, name = place.rpartition(".")
        monkeypatch.setattr(import_module(module), name, stop)


def test_the_pages_have_commands() -> None:
    assert len(CASES) > 120 and {case.id.split(":")[0] for case in CASES} >= {"README", "commands", "scale", "results"}


@pytest.mark.parametrize("line", CASES)
def test_a_command_of_a_page(line: str, here: None, capsys: pytest.CaptureFixture[str]) -> None:
    if any(re.match(pattern, line) for pattern in NOT_COMPOSED):
        return
    inner = re.sub(r"""eval ['"]\$\((.*)\)['"]""", r"\1", line)
    program, *words = shlex.split(inner.partition(" | ")[0])
    checks = {"spade": check_spade, "python": check_script, "pip": check_install, "pytest": check_files}
    checks |= dict.fromkeys(("./check", ".ci/run", "mkdocs"), check_files)
    assert program in checks, f"{program} is no program that the pages may name"
    checks[program]([*words] if program in ("spade", "python", "pip") else [program, *words])
    assert "spade: " not in capsys.readouterr().err.replace("spade: failed", "spade: ")


def check_spade(words: list[str]) -> None:
    if f"spade {words[0] if words else ''}".startswith(CHEAP):
        assert main(words) == 0
        return
    verb, *rest = words or ["--help"]
    if "COMMAND" in words or not words:  # a placeholder of a page
        return
    assert verb in VERBS, f"{verb} is no command"
    command = getattr(load_verb(verb), "COMMAND", None)
    if isinstance(command, Command):
        assert read_arguments(command, rewrite_words(verb, [word for word in rest if not word.startswith("threads=")]))
    elif {"--help", "--cfg"} & set(rest):
        assert main(words) == 0
    else:
        with pytest.raises(WorkBegins):
            main(words)


def check_script(words: list[str]) -> None:
    """A script that exists, and options that it names."""
    if words[0] == "-m":
        assert words[1] in ("build", "spade_cli", "twine", "venv")
        return
    text = (ROOT / words[0]).read_text(encoding="utf-8")
    options = [word for word in words[1:] if word.startswith("--")]
    settings = [word.partition("=")[0] for word in words[1:] if re.match(r"\w+=", word)]
    assert all(f'"{option}"' in text for option in options) and all(f'"{key}"' in text for key in settings)


def check_install(words: list[str]) -> None:
    extras = {extra for names in re.findall(r"\[([\w,]+)\]", " ".join(words)) for extra in names.split(",")}
    assert words[0] == "install" and extras <= set(PYPROJECT["project"]["optional-dependencies"])


def check_files(words: list[str]) -> None:
    assert all((ROOT / word).exists() for word in words if "/" in word)
    assert words[0] != "mkdocs" or (ROOT / "mkdocs.yml").is_file()


@cache
def known_keys(verb: str) -> set[str]:
    command = getattr(load_verb(verb), "COMMAND", None)
    if isinstance(command, Command):
        return {setting.key for setting in command.settings}
    return set(read_keys("run" if verb == "demo" else verb, []))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.stem)
def test_commands_within_a_sentence_name_commands_and_settings(page: Path) -> None:
    for line in re.findall(r"`spade ([^`]+)`", page.read_text(encoding="utf-8").replace("\n", " ")):
        verb, *words = line.split()
        assert verb in (*VERBS, "COMMAND", "--help", "--version"), line
        keys = [word.partition("=")[0].strip("'+") for word in words if re.match(r"'?\+?[a-z][\w.]*=", word)]
        assert verb not in VERBS or set(keys) <= known_keys(verb) | {"image", "threads", "..."}, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_scripts_within_a_sentence_exist(page: Path) -> None:
    for line in re.findall(r"`python ([^`]+)`", page.read_text(encoding="utf-8").replace("\n", " ")):
        if line.startswith("scripts/"):
            check_script(shlex.split(line))


def test_yaml_of_the_pages_is_yaml() -> None:
    for page in PAGES:
        for block in re.findall(r"```ya?ml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            assert yaml.safe_load(block)


def test_the_network_of_the_how_to_page_is_built_and_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "how-to" / "own-network.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("mynets.py").write_text(code, encoding="utf-8")
    assert main(["layers", "model=python", "model.factory=mynets.py:build", "model.size=64"]) == 0
