"""Each mistake on the command line is one line and exit code 2, with nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from networks import photograph

from spade_cli.cli import main

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
    *(
        ([IMAGE, f"model.size={value}"], "neither the side of a square in pixels nor height and width", "[192,256]")
        for value in ("[48]", "[1,2,3]", "48x80", "[48,80.5]", "[48,true]", "0.5")
    ),
    ([IMAGE, "model.size=[0,80]"], "model.size=[0, 80]: 0 is not from 1 to 10000"),
    ([IMAGE, "model.size=[48,10001]"], "10001 is not from 1 to 10000"),
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


ON_THE_COMMAND_LINE = [
    *((f"{group}={value}", f"{group} is chosen by its name", "there are ") for group, value in
      (("pruner", "3"), ("schedule", "0.5"), ("model", "1"), ("augmentation", "true"), ("interpreter", "null"),
       ("pruner", "[obs]"))),
    ("+foo=1", "foo=1 is not a setting of spade run", "spade run --help"),
    ("+interpreter._target_=os.system", "interpreter._target_=os.system is not a setting"),
    ("+calibration.batchsize=1", "did you mean calibration.batch_size="),
    ("+interpreter.lime.seed=1", "interpreter.lime.seed=1 is not a setting"),
    ("+model.sise=3", "did you mean model.size="),
    ("interpreter.lime=3", "interpreter.lime has settings of its own", "interpreter.lime.samples=VALUE"),
    ("calibration=3", "calibration has settings of its own"),
    ("model.mean=[123.675,116.28,103.53]", "divide by 255", "model.mean=[0.485,0.456,0.406]"),
    ("model.std=[58.395,57.12,57.375]", "divide by 255", "model.std=[0.229,0.224,0.225]"),
    ("model.mean=[-1,0,0]", "model.mean=-1 is not a number from 0 to 1"),
    ("pruner.sparsity=95", "95 % is pruner.sparsity=0.95"),
    ("schedule.ladder=[99]", "such as 0.99"),
    ("interpreter.occlusion.stride=16 interpreter.occlusion.window=15", "a stride from 1 to 15"),
    ("interpreter.occlusion.stride=0", "interpreter.occlusion.stride=0"),
    ("schedule=paper_resnet50 schedule.method=lpr", "did you mean lrp?"),
    ("model.size=1000 augmentation.samples=100000", "do not fit into the memory", "at most 5017"),
    ("model.size=[500,2000] augmentation.samples=100000", "of model.size=[500,2000] pixels", "at most 5017"),
    (f"model={'x' * 300}", "is unknown; there are"),
    (f"image={'x' * 300}", "longer than the path of any file"),
    (f"seed={'9' * 5000}", "the command line or a YAML file does not compose"),
]  # fmt: skip


@pytest.mark.parametrize("mistake", ON_THE_COMMAND_LINE, ids=lambda mistake: mistake[0][:40])
def test_mistakes_on_the_command_line(refuse: Callable[..., str], mistake: tuple[str, ...]) -> None:
    words, *parts = mistake
    given = words.split(" ")
    message = refuse("run", *([] if words.startswith("image=") else [IMAGE]), *given)
    assert all(part in message for part in parts), message


def test_a_window_larger_than_the_picture(refuse: Callable[..., str], requests: list[Any]) -> None:
    words = ["model=python", "model.factory=networks:small", "interpreter=saliency"]
    wide = ["interpreter.methods=[occlusion]", "interpreter.occlusion.window=65", "model.size=64"]
    assert "larger than the picture, 64 x 64 pixels" in refuse("run", IMAGE, *words, *wide)
    # It is of no account where the method is not asked for: the default suits no network of tiny pictures.
    assert main(["run", IMAGE, *words, "model.size=8"]) == 0 and len(requests) == 1


def test_a_window_larger_than_the_pictures_of_a_network_that_says_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photograph().save("cat.png")
    words = ["interpreter=saliency", "interpreter.methods=[occlusion]", "interpreter.occlusion.window=300"]
    for command, place in (("run", "image=cat.png"), ("batch", "images=cat.png"), ("eval", "count=1")):
        assert main([command, place, "model=demo", *words]) == 2
        assert "window=300 is larger than the picture, 128 x 128 pixels" in capsys.readouterr().err
        assert main([command, place, "model=demo", *words[:2], "interpreter.occlusion.stride=19"]) == 2
        assert "stride=19 is larger than the square, which has 18 pixels a side" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


def test_a_layer_may_be_called_like_a_number(requests: list[Any]) -> None:
    assert main(["run", IMAGE, "interpreter.cam_layer=1.10"]) == 0
    assert requests[0].saliency["guided_gradcam"].keywords["layer"] == "1.10", "and not 1.1, which is another layer"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("bolt:bolt", "sets bolt against itself"),
        ("bolt:fan:key", "target=bolt:fan:key is not a contrast of two classes: write CLASS, CLASS:OTHER"),
        ("bolt:hart", "'hart' is no class of this network"),
        ("top13", "give top1 to top12"),
        ("top1:predicted", "on this image both are"),
    ],
)
def test_questions_that_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photograph().save("cat.png")
    assert main(["run", "image=cat.png", "model=demo", f"target={target}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]
