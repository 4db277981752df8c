"""The user's own factories: each way they fail is one line that says where."""

from pathlib import Path

import pytest
import torch
from test_models import built, refused, tiny
from torch import nn

from spade_cli.models import ModelSource, load_model

__all__ = ["tiny"]  # a factory whose layers are lazy


def raising() -> nn.Module:
    raise ValueError("odd")


def leaving() -> nn.Module:
    raise SystemExit(3)


def needy(width: int) -> nn.Module:
    return nn.Linear(width, 2)


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
        ("needy", "without arguments"),
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
