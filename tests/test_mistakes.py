"""Each mistake on the command line is one line and exit code 2, with nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

IMAGE = "image=cat.jpg"

MISTAKES = [
    ([], "image", "image=PATH"),
    (["cat.jpg"], "did you mean image=cat.jpg?"),
    (["obs"], "is not KEY=VALUE; did you mean pruner=obs?"),
    (["imge=x"], "did you mean image="),
    ([IMAGE, "pruner=ob"], "did you mean pruner=obs?", "sparsegpt"),
    ([IMAGE, "model=resnet51"], "resnet50", "model.name=NAME"),
    ([IMAGE, "pruner.sparcity=1"], "pruner.sparsity"),
    (
        [IMAGE, "pruner=sparsegpt", "pruner.granularity=weight"],
        "pruner=sparsegpt",
        "belongs to pruner=forward and pruner=obs",
    ),
    ([IMAGE, "model.name=(a"], "model.name='(a'"),
    ([IMAGE, "--nonsense"], "--nonsense", "KEY=VALUE"),
    ([IMAGE, "--config-dir", "nowhere"], "nowhere"),
    ([IMAGE, "~pruner"], "pruner"),
    ([IMAGE, "seed=${nothing}"], "nothing"),
    ([IMAGE, "pruner.sparsity=1.5"], "pruner.sparsity=1.5", "0 to 1"),
    ([IMAGE, "pruner.sparsity=-0.1"], "0 to 1"),
    ([IMAGE, "pruner.sparsity=nan"], "0 to 1"),
    ([IMAGE, "pruner.sparsity=true"], "0 to 1"),
    ([IMAGE, "pruner.damping=-1"], "from 0 to 1000"),
    ([IMAGE, "pruner=sparsegpt", "pruner.lazy_width=wide"], "128"),
    ([IMAGE, "pruner=sparsegpt", "+pruner.extra=1"], "pruner.extra", "lazy_width"),
    ([IMAGE, "augmentation.samples=0"], "augmentation.samples=0", "from 1 to 100000"),
    ([IMAGE, "augmentation.samples=2.5"], "whole"),
    ([IMAGE, "augmentation.scale=[1]"], "[0.2, 1.0]"),
    ([IMAGE, "schedule.ladder=[0.9,much]"], "schedule.ladder=[0.9, 'much']", "[0.99, "),
    ([IMAGE, "seed=-1"], "seed=-1"),
    ([IMAGE, "seed=x"], "seed=x"),
    ([IMAGE, "device=tpu"], "cuda:N"),
    ([IMAGE, "keep=[traces]"], "keep=['traces']", "trace and report"),
    ([IMAGE, "keep=none"], "keep=none", "keep=[]"),
    ([IMAGE, "calibration.rows_per_column=0"], "all"),
    ([IMAGE, "calibration.batch_size=0"], "at least 1"),
    ([IMAGE, "calibration.precision=half"], "auto, float32 and bfloat16"),
    ([IMAGE, "calibration.memory=-1"], "calibration.memory=-1"),
    ([IMAGE, "calibration.memory=much"], "calibration.memory=much"),
    ([IMAGE, "calibration.save=/dev/null/kept"], "calibration.save=/dev/null/kept", "is a file; give a folder"),
    ([IMAGE, "schedule.layers={fc: 2}"], "fc", "0 to 1"),
    ([IMAGE, "schedule.layers=fc"], "{PATTERN: SHARE}"),
    ([IMAGE, "interpreter.methods=[slaiency]"], "did you mean saliency?", "gradient_shap"),
    ([IMAGE, "interpreter.methods=[]"], "no method"),
    ([IMAGE, "interpreter.lime.samples=0"], "interpreter.lime.samples=0"),
    ([IMAGE, "interpreter.steps=0"], "at least 1"),
    ([IMAGE, "interpreter.targets=[1.5]"], "1.5"),
    ([IMAGE, "model=torchvision"], "model.name=NAME"),
    ([IMAGE, "model=python"], "model.factory="),
    ([IMAGE, "model.mean=[1]"], "model.mean"),
    ([IMAGE, "model.std=[0,0,0]"], "model.std"),
    ([IMAGE, "model.size=0"], "model.size"),
    ([IMAGE, "model.size=99999999999999999999"], "from 1 to 10000"),
    ([IMAGE, "model.labels="], "model.labels=PATH"),
    ([IMAGE, "model=python", "model.factory="], "model.factory=package.module:function"),
    ([IMAGE, "augmentation.samples=1000000000"], "from 1 to 100000"),
    ([IMAGE, "calibration.batch_size=99999999999999999999"], "calibration.batch_size"),
    ([IMAGE, "interpreter.methods=[[saliency]]"], "unknown"),
    ([IMAGE, "interpreter.methods=[saliency,]"], "brackets"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: " ".join(mistake[0]) or "no image")
def test_mistakes_are_one_line(refuse: Callable[..., str], mistake: tuple[Any, ...]) -> None:
    arguments, *parts = mistake
    message = refuse("run", *arguments)
    assert all(part in message for part in parts), message
    assert "hydra" not in message.lower() and "_level" not in message


def test_output_that_cannot_be(refuse: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in refuse("run", IMAGE, "out=file/x")


def test_unknown_verbs(refuse: Callable[..., str]) -> None:
    assert "did you mean spade run?" in refuse("rn")
    assert "spade run image=x" in refuse("image=x")
    assert "layers" in refuse("zzz")
