"""The user's own factories: each way they fail is one line that says where."""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_models import built, refused, tiny
from torch import nn

from spade_cli.cli import main
from spade_cli.models import ModelSource, load_model, wrap
from spade_cli.user_functions import call_factory

__all__ = ["tiny"]  # a factory whose layers are lazy


def raising() -> nn.Module:
    raise ValueError("odd")


def leaving() -> nn.Module:
    raise SystemExit(3)


def needy(width: int) -> nn.Module:
    return nn.Linear(width, 2)


class Needy(nn.Linear):
    def __init__(self, width: int, *, depth: int, bias: bool = True) -> None:
        super().__init__(width, depth, bias=bias)


@functools.wraps(needy)
def passing_on(*arguments: int) -> nn.Module:
    """What it needs is its own affair: its signature is the one of another function."""
    return needy(*arguments)


@functools.wraps(needy)
def filling_in() -> nn.Module:
    return built()


class Ready(nn.Sequential):
    def __init__(self, classes: int = 3) -> None:
        super().__init__(nn.Flatten(), nn.Linear(192, classes))


NETWORK = Ready()
CLASSIFIER = wrap(NETWORK, size=8, labels=["a", "b", "c"], mean=(0, 0, 0), std=(1, 1, 1))


def half() -> nn.Module:
    return built().half()


def classless() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 0))


def scripted() -> nn.Module:
    return torch.jit.script(built())


@pytest.mark.parametrize(
    ("factory", "word"),
    [
        ("raising", "ValueError in test_factories.py, line"),
        ("leaving", "SystemExit"),
        ("needy", "a function that needs width, and a factory is called without arguments"),
        ("Needy", "a class that needs width, depth, and a factory"),
        ("passing_on", "TypeError"),
        ("tiny", "lazy"),
        ("scripted", "TorchScript"),
        ("classless", "one row of class scores"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_factories_that_fail(factory: str, word: str) -> None:
    refused(ModelSource(None, factory=f"{__name__}:{factory}", size=8), word)


def test_modules_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "module_with_a_mistake.py").write_text("def f(:\n")
    refused(ModelSource(None, factory="module_with_a_mistake:f"), "SyntaxError", "line 1")
    refused(ModelSource(None, factory=".relative:f"), "package.module:function")


def test_factories_of_another_precision() -> None:
    assert load_model(ModelSource(None, factory=f"{__name__}:half", size=8)).classes == 5


def test_what_is_made_already_is_taken_as_it_is() -> None:
    assert call_factory(f"{__name__}:NETWORK", "asked") is NETWORK
    assert load_model(ModelSource(None, factory=f"{__name__}:NETWORK", size=8)).classes == 3
    made = load_model(ModelSource(None, factory=f"{__name__}:CLASSIFIER"))
    assert made.labels == ("a", "b", "c") and made.preprocessing.size == 8
    assert load_model(ModelSource(None, factory=f"{__name__}:Ready", size=8)).classes == 3
    assert load_model(ModelSource(None, factory=f"{__name__}:filling_in", size=8)).classes == 5


def test_the_hint_for_a_class_is_a_function_that_works() -> None:
    hint = "def build(): return Needy(width=..., depth=...)"
    refused(ModelSource(None, factory=f"{__name__}:Needy"), hint)
    names = {"Needy": Needy}
    exec(hint.replace("...", "4"), names)
    assert isinstance(names["build"](), Needy)  # type: ignore[operator]


SOURCE = "from torch import nn\ndef base(): return nn.Sequential(nn.Flatten(), nn.Linear(192, {classes}))\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to stand in; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_factories_of_files(here: Path) -> None:
    for name, classes in (("mynets.py", 2), ("nets/deep nets.py", 3), ("other/mynets.py", 4), ("random.py", 6)):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(SOURCE.format(classes=classes))
        for path in (name, here / name):
            assert load_model(ModelSource(None, factory=f"{path}:base", size=8)).classes == classes
    (here / "beside.py").write_text("WIDTH = 5\n")
    (here / "user.py").write_text("from beside import WIDTH\n" + SOURCE.format(classes="WIDTH"))
    assert load_model(ModelSource(None, factory="user.py:base", size=8)).classes == 5


def test_files_of_factories_that_fail(here: Path) -> None:
    refused(ModelSource(None, factory="mynets.py:base"), "no file mynets.py", f"{here}", "write mynets:base")
    refused(ModelSource(None, factory="nets/mynets.py:base"), "write nets.mynets:base")
    refused(ModelSource(None, factory="../my nets.py:base"), "no file ../my nets.py; check the path")
    for name in ("mynets.py", "my nets.py"):
        (here / name).write_text("def bas(): pass\n")
        refused(ModelSource(None, factory=f"{name}:base"), f"{name} has no base; close: bas")
    for name in ("broken.py", "so broken.py"):
        (here / name).write_text("def f(:\n")
        refused(ModelSource(None, factory=f"{name}:f"), "SyntaxError", "line 1")
    for name in ("lacking.py", "so lacking.py"):
        (here / name).write_text("import no_such_package_at_all\n")
        refused(ModelSource(None, factory=f"{name}:f"), "no_such_package_at_all", "install it")


def test_files_of_factories_on_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "my nets.py").write_text(SOURCE.format(classes=3))
    assert main(["layers", "model=python", "model.factory=my nets.py:base", "model.size=8"]) == 0
    assert "1" in capsys.readouterr().out
