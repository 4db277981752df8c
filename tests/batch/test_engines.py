"""Engines on clusters, where they are installed: the same table as this process alone, also when a worker dies."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from many import alike, dies_once, pictures
from networks import DEVICE
from PIL import Image
from test_batch import asked

from spade_cli.batch import batch
from spade_cli.batch.batch_request import BatchRequest
from spade_cli.batch.engines.local import count_cores, count_workers, pick_gpu
from spade_cli.cli import main
from spade_cli.errors import UserError
from spade_cli.images import augment


def through(engine, out, **changes):
    request = asked(out, workers=2, **changes)
    return BatchRequest(**{**vars(request), "engine": engine})


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_the_table_is_the_same_though_a_worker_dies(name, tmp_path, monkeypatch):
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}[name])
    if name == "ray":
        from spade_cli.batch.engines.ray import ray as engine
    else:
        from spade_cli.batch.engines.slurm import slurm

        engine = partial(slurm, cluster="local", images=2, minutes=10)
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pictures", 4)
    pixel = int(np.array(Image.open("pictures/dogs 0/é 1.png"))[0, 0, 0])
    deadly = partial(dies_once, marker=str(tmp_path / "died"), pixel=pixel)
    whole = batch(asked(tmp_path / "whole", augmentation=augment.paper))
    batch(through(engine, tmp_path / "out", augmentation=deadly))
    assert Path("died").exists() and alike(tmp_path / "out", whole)


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


def test_slurm_knows_its_clusters():
    pytest.importorskip("submitit")
    from spade_cli.batch.engines.slurm import slurm

    with pytest.raises(UserError, match="slurm and local"):
        list(slurm(None, None, iter(()), 1, cluster="moon"))


def test_workers_of_this_machine():
    assert count_workers("cpu") == count_cores() >= 1
    assert [pick_gpu("auto", index, 2) for index in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert pick_gpu("cuda:1", 0, 2) == "cuda:1" and pick_gpu("cpu", 0, 2) == "cpu"
