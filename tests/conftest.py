"""Shared by all tests: threads, device, imports of siblings and scripts, a command line without its pipeline."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(folder) for folder in (HERE, *sorted(HERE.iterdir()), HERE.parent / "scripts") if folder.is_dir()]
if os.environ.setdefault("SPADE_TEST_DEVICE", "cpu") == "cpu":  # then device=auto is the CPU on every machine
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz", type=int, default=120, metavar="N", help="how many random inputs tests/test_fuzz.py gives"
    )


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no command that one starts, keeps anything among the user's own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Requests that reached the pipeline, which does nothing here."""
    from spade_cli.run import pipeline

    seen: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run", lambda request, console: seen.append(request) or request.output / "done")
    return seen


@pytest.fixture
def refuse(requests: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    from spade_cli.cli import main

    def check(*arguments: str) -> str:
        code = main(list(arguments))
        captured = capsys.readouterr()
        assert code == 2, captured
        assert captured.out == "" and captured.err.startswith("spade: ") and captured.err.count("\n") == 1
        assert not requests and not list(tmp_path.glob("outputs*"))
        return captured.err

    return check
