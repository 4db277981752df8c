"""Keys that nothing reads are refused; YAML of the user's own is read with all that it refers to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spade_cli.cli import main
from spade_cli.run.request import RunRequest

IMAGE = "image=cat.jpg"

UNKNOWN = [
    (["+foo=1"], "foo=1 is not a setting of spade run"),
    (["++foo=1"], "foo=1 is not a setting"),
    (["+sead=1"], "did you mean seed=...?"),
    (["+interpreter._target_=os.getcwd"], "interpreter._target_=os.getcwd is not a setting"),
    (["+interpreter.foo.samples=1"], "interpreter.foo="),
    (["+calibration.rows=1"], "calibration.rows=1 is not a setting"),
    (["+model.wieghts=x"], "model.wieghts=x is not a setting of spade run; did you mean model.weights=...?"),
    (["+experiment=mine"], "experiment=mine is not a setting"),
    (["+image.path=x"], "image"),
    (["calibration=3"], "calibration has settings of its own"),
    (["+pruner.extra=1"], "pruner.extra"),
    (["+schedule.extra=1"], "schedule.extra"),
    (["+augmentation.extra=1"], "augmentation.extra"),
    (["+interpreter.lime.extra=1"], "interpreter.lime.extra"),
]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=lambda unknown: unknown[0][0])
def test_a_key_that_nothing_reads_is_refused(refuse: Callable[..., str], unknown: tuple[Any, ...]) -> None:
    arguments, *parts = unknown
    message = refuse("run", IMAGE, *arguments)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("verb", ["batch", "sweep", "eval", "tune", "world", "toy", "layers", "doctor", "implant"])
def test_every_command_refuses_it(refuse: Callable[..., str], verb: str) -> None:
    required = {"batch": ["images=x"], "sweep": ["images=x"], "world": ["out=x"], "implant": ["images=x", "out=x"]}
    assert f"foo=1 is not a setting of spade {verb}" in refuse(verb, *required.get(verb, []), "+foo=1")


def test_yaml_of_the_users_own_goes_on_working(requests: list[RunRequest], tmp_path: Path, capsys: Any) -> None:
    files = {
        "experiment/mine.yaml": "# @package _global_\nbase: 3\nseed: ${base}\noutput: kept\n",
        "interpreter/mine.yaml": "# Mine.\ndefaults:\n  - saliency\n  - _self_\nwide: 9\n"
        "occlusion:\n  window: ${..wide}\nsaliency: {}\n",
        "pruner/mine.yaml": "# Mine.\ndefaults:\n  - _level\n  - _self_\n_target_: open_ended.zero\nanything: 2\n",
        "settings/mine.yaml": "# A group of the user's own.\nlevel: 0.5\n",
        "notes/mine.yaml": "# Another, which nothing refers to.\nwhy: to see\n",
    }
    for name, text in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text)
    (tmp_path / "open_ended.py").write_text(
        "def zero(weight, hessian, sparsity, block, **settings):\n    return weight\n"
    )
    own = ["--config-dir", "mine", "pruner=mine", "interpreter=mine"]
    groups = ["+experiment=mine", "+settings=mine", "+notes=mine", "pruner.sparsity=${settings.level}"]
    assert main(["run", IMAGE, *own, *groups, "+pruner.more=4"]) == 0
    (request,) = requests
    assert (request.seed, request.output, request.trace.level) == (3, Path("kept"), 0.5)
    assert request.trace.pruner.keywords == {"anything": 2, "more": 4}
    assert request.saliency["lrp"] and "out: kept" in request.config and "\noutput:" not in request.config
    assert "write out: kept in the YAML file" in capsys.readouterr().err
    assert main(["run", IMAGE, *own, *groups, "out=mine too"]) == 0
    assert requests[1].output == Path("mine too")
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_text("# @package _global_\nsead: 3\n")
    capsys.readouterr()
    assert main(["run", IMAGE, *own, *groups]) == 2
    assert "sead=3 is not a setting of spade run; did you mean seed=...?" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: [1", b"*x", b"a: b: c"])
def test_a_file_of_ones_own_that_is_no_yaml(refuse: Callable[..., str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own" / "pruner").mkdir(parents=True)
    (tmp_path / "own" / "pruner" / "mine.yaml").write_bytes(content)
    assert "mine.yaml" in refuse("run", IMAGE, "--config-dir", "own", "pruner=mine")


def test_settings_of_ones_own_in_a_file(refuse: Callable[..., str], requests: list[Any], tmp_path: Path) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "bad.yaml").write_text("image: cat.jpg\n")
    for flag in (["--config-name", "bad"], ["--config-name=bad"], ["-cp", "own"]):
        assert "+experiment=mine" in refuse("run", IMAGE, "--config-dir", "own", *flag)
    file = tmp_path / "own" / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults:\n  - override /pruner: obs\nseed: 5\n")
    assert main(["run", IMAGE, "--config-dir", "own", "+experiment=mine"]) == 0
    assert (requests[0].trace.pruner_name, requests[0].seed) == ("obs", 5)
    file.write_text("# @package _global_\nsede: 5\n")
    assert main(["run", IMAGE, "--config-dir", "own", "+experiment=mine"]) == 2 and len(requests) == 1


def test_settings_of_a_saliency_method_of_ones_own(tmp_path: Path, requests: list[Any], monkeypatch: Any) -> None:
    (tmp_path / "own_method_here.py").write_text("def shine(network, image, target, *, width=3):\n    return image\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = ["interpreter.methods=[own_method_here:shine]", "+interpreter.shine.width=5"]
    assert main(["run", IMAGE, *words]) == 0
    assert requests[0].saliency["shine"].method.settings == {"width": 5}
    assert main(["run", IMAGE, *words, "+interpreter.glow.width=5"]) == 2
    assert main(["run", IMAGE, words[0], "+interpreter.shine.depth=5"]) == 2 and len(requests) == 1
