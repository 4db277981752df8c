"""The command in a process of its own: how quick its help is, and what it leaves on a closed pipe."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def spade(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spade_cli", *arguments], capture_output=True, text=True, check=False, **settings
    )


def test_the_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    settings = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}}
    quickest = min(timed(lambda: spade("--help", **settings)) for _ in range(3))
    assert quickest < 0.5
    failed = spade("run", "image=nowhere.png", "model=squeezenet1_1", "model.weights=none", **settings)
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1) and "nowhere.png" in failed.stderr
    assert not list(tmp_path.iterdir())


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from spade_cli.cli import main; main(['run', '--help']); main(['--help']); main([]); "
    code += "print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    loaded = done.stdout.splitlines()[-1]
    assert "'difflib'" in loaded and not [m for m in ("torch", "hydra", "omegaconf", "rich") if f"'{m}'" in loaded]


@pytest.mark.skipif(os.name == "nt", reason="closed pipes are POSIX's")
def test_a_reader_that_goes_away() -> None:
    root = Path(__file__).parents[1]
    command = f"{sys.executable} -m spade_cli run --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=root, check=False)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
