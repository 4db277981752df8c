"""Engines: what one says whose library is missing, and how many workers this machine has room for."""

from pathlib import Path

import pytest
from many import pictures
from networks import DEVICE

from spade_cli.batch.engines.local import count_cores, count_workers, pick_gpu
from spade_cli.cli import main


@pytest.mark.parametrize("name, module", [("ray", "ray"), ("slurm", "submitit")])
def test_without_its_library_an_engine_says_how_to_get_it(name, module, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pictures", 1)
    words = ["model=python", "model.factory=networks:small", "model.size=32", f"device={DEVICE}"]
    words += ["augmentation.samples=1"]
    assert main(["batch", "images=pictures", f"engine={name}", *words, "out=out"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"pip install 'spade-cli[{name}]'" in error and not Path("out").exists()


def test_workers_of_this_machine():
    assert count_workers("cpu") == count_cores() >= 1
    assert [pick_gpu("auto", index, 2) for index in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert pick_gpu("cuda:1", 0, 2) == "cuda:1" and pick_gpu("cpu", 0, 2) == "cpu"
