"""The command line: what reaches the pipeline, and each mistake as one line and an exit code with nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spade_cli import __version__, pipeline
from spade_cli.cli import VERBS, main, terminal
from spade_cli.cli.overrides import arrange, quote
from spade_cli.errors import SpadeError, UserError
from spade_cli.interpretation import METHODS
from spade_cli.request import Request

IMAGE = "image=cat.jpg"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Request]:
    """Requests that reached the pipeline, which does nothing here."""
    seen: list[Request] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run", lambda request, console: seen.append(request) or request.output / "done")
    return seen


@pytest.fixture
def refuse(requests: list[Request], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def check(*arguments: str) -> str:
        code = main(list(arguments))
        captured = capsys.readouterr()
        assert code == 2, captured
        assert captured.out == "" and captured.err.startswith("spade: ") and captured.err.count("\n") == 1
        assert not requests and not list(tmp_path.glob("outputs*"))
        return captured.err

    return check


def test_defaults(requests: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", IMAGE]) == 0
    (request,) = requests
    assert (request.image, request.output, request.model.name) == (Path("cat.jpg"), Path("outputs"), "resnet50")
    assert (request.samples, request.sparsity, request.damping, request.seed) == (256, None, 0.01, 0)
    assert (request.pruner_name, request.schedule_name, request.augmentation_name) == ("forward", "auto", "paper")
    assert (request.calibration.rows_per_column, request.target, request.device) == (32, "predicted", "auto")
    assert set(request.saliency) < set(METHODS) and request.visualize is not None and not request.visualization_targets
    assert request.command == "spade run image=cat.jpg" and "sparsity: null" in request.config
    assert capsys.readouterr().out == f"{Path('outputs/done')}\n"
    assert not Path("outputs").exists() and not list(Path().iterdir())  # Hydra leaves nothing


def test_settings_are_bound(requests: list[Request]) -> None:
    arguments = ["pruner=obs", "pruner.granularity=weight", "augmentation=noise", "augmentation.std=0.5", "seed=7"]
    arguments += [
        "interpreter.methods=all",
        "interpreter.occlusion.window=9",
        "interpreter.steps=3",
        "interpreter.targets=[layer4.2:17,tiger cat,5]",
    ]
    arguments += ["calibration.rows_per_column=all", "schedule.layers={layer[34].*: 0.5, fc: 0}"]
    assert main(["run", IMAGE, *arguments]) == 0
    (request,) = requests
    assert request.pruner.keywords == {"granularity": "weight"}
    assert request.augmentation.keywords == {"std": 0.5}
    assert list(request.saliency) == list(METHODS)
    assert request.saliency["occlusion"].keywords["window"] == 9
    assert request.saliency["lime"].keywords["seed"] == 7
    assert "seed" not in request.saliency["saliency"].keywords
    assert request.visualize.keywords["steps"] == 3
    assert request.visualization_targets == ("layer4.2:17", "tiger cat", 5)
    assert request.calibration.rows_per_column is None and request.layer_shares == {"layer[34].*": 0.5, "fc": 0.0}


def test_interpreters(requests: list[Request]) -> None:
    assert main(["run", IMAGE, "interpreter=saliency"]) == main(["run", IMAGE, "interpreter=visualization"]) == 0
    assert requests[0].saliency and requests[0].visualize is None
    assert not requests[1].saliency and requests[1].visualize is not None


NAMES = [
    "héron (1)=x,.png",
    "a b.png",
    "123",
    "it's.png",
    'a"b.png',
    "a#b.png",
    "{a}[b].png",
    "a\\",
    "a\\'b",
    "${x}.png",
    "\\${x}",
    "!&;~.png",
    "true",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_file(requests: list[Request], name: str) -> None:
    assert main(["run", f"image={name}", f"output={name}", f"model.weights={name}", f"target={name}"]) == 0
    (request,) = requests
    assert request.image == request.output == Path(name)
    assert request.model.weights == request.target == name


def test_home_is_expanded(requests: list[Request], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["run", "image=~/a b.png"]) == 0
    assert requests[0].image == tmp_path / "a b.png"
    assert main(["run", "image=~nobody-of-this-name.png"]) == 0
    assert requests[1].image == Path("~nobody-of-this-name.png")


def test_quotes_of_the_users_own_are_kept() -> None:
    assert quote("image='a b.png'", sweep=False) == "image='a b.png'"
    assert quote("pruner=obs", sweep=False) == "pruner=obs"
    assert quote("image=choice(a,b)", sweep=True) == "image=choice(a,b)"
    assert quote("+image=é", sweep=False) == "+image='é'"
    assert arrange(["a=1", "-m", "--cfg", "job", "image=x"]) == (["-m", "--cfg", "job"], ["a=1", "image='x'"])


MISTAKES = [
    ([], "image", "image=PATH"),
    (["cat.jpg"], "did you mean image=cat.jpg?"),
    (["obs"], "no key=value"),
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
    ([IMAGE, "--nonsense"], "--nonsense", "nonsense=VALUE"),
    ([IMAGE, "--config-dir", "nowhere"], "nowhere"),
    ([IMAGE, "~pruner"], "pruner"),
    ([IMAGE, "seed=${nothing}"], "nothing"),
    ([IMAGE, "pruner.sparsity=1.5"], "pruner.sparsity=1.5", "0 to 1"),
    ([IMAGE, "pruner.sparsity=-0.1"], "0 to 1"),
    ([IMAGE, "pruner.sparsity=nan"], "0 to 1"),
    ([IMAGE, "pruner.sparsity=true"], "0 to 1"),
    ([IMAGE, "pruner.damping=-1"], "at least 0"),
    ([IMAGE, "pruner=sparsegpt", "pruner.lazy_width=wide"], "128"),
    ([IMAGE, "pruner=sparsegpt", "+pruner.extra=1"], "pruner.extra", "lazy_width"),
    ([IMAGE, "augmentation.samples=0"], "augmentation.samples=0", "from 1 to 100000"),
    ([IMAGE, "augmentation.samples=2.5"], "whole"),
    ([IMAGE, "augmentation.scale=[1]"], "[0.2, 1.0]"),
    ([IMAGE, "schedule.ladder=[0.9,much]"], "schedule.ladder=[0.9, 'much']", "[0.99, "),
    ([IMAGE, "seed=-1"], "seed=-1"),
    ([IMAGE, "seed=x"], "seed=x"),
    ([IMAGE, "device=tpu"], "cuda:N"),
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
    assert "is a file" in refuse("run", IMAGE, "output=file/x")


def test_quiet_plain_and_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["augmentation.samples=4", "interpreter.methods=[saliency]", "interpreter.steps=2"]
    assert main(["demo", "--quiet", *quick]) == 0
    out, told = capsys.readouterr()
    folder = Path(out.strip())
    assert told == "" and folder.is_dir()
    found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert "--quiet" not in found["command"], "it is how to say it, not what was done"
    assert main(["demo", "-q", "--json", *quick]) == 0
    out, told = capsys.readouterr()
    row = json.loads(out)
    assert told == "" and row["target"] == "bolt" and Path(row["run"]).is_dir()
    assert row["agreement"] == found["fidelity"]["agreement"] and row["skipped"] == []


def test_views_reach_the_console(requests: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    for flags, expected in (([], (False, False)), (["-q"], (True, False)), (["--plain"], (False, True))):
        made = terminal.console(flags)
        assert (made.quiet, made.no_color) == expected and made.stderr
    assert main(["toy", "--json"]) == 2 and "--json is an option of spade run" in capsys.readouterr().err


def test_errors_from_below(
    requests: list[Request], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(error: BaseException) -> Callable[..., None]:
        def run(*_: Any) -> None:
            raise error

        return run

    for error, code in ((UserError("a\nb"), 2), (SpadeError("a b"), 1), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr(pipeline, "run", failing(error))
        assert main(["run", IMAGE]) == code
        captured = capsys.readouterr().err
        assert captured == ("spade: interrupted\n" if code == 130 else "spade: a b\n")
    monkeypatch.setattr(pipeline, "run", failing(ZeroDivisionError("odd")))
    assert main(["run", IMAGE]) == 1
    assert "Traceback" in (captured := capsys.readouterr().err) and "odd" in captured and "HYDRA" not in captured


def test_multirun_goes_on_after_a_failure(requests: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", "-m", "image=é 1.jpg,b.jpg", "seed=-1,5", "output=out 1"])
    assert code == 2
    assert [(request.image.name, request.seed) for request in requests] == [("é 1.jpg", 5), ("b.jpg", 5)]
    assert capsys.readouterr().err.count("seed=-1 is not") == 2
    assert [path.name.endswith("-multirun") for path in Path("out 1").glob("*/*")] == [True]


def test_a_pruner_of_ones_own(requests: list[Request], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_pruner_module.py").write_text(
        "def zero(weight, hessian, sparsity, block, *, force=1.0):\n    return weight * 0\n"
    )
    (tmp_path / "my yaml" / "pruner").mkdir(parents=True)
    (tmp_path / "my yaml" / "pruner" / "mine.yaml").write_text(
        "# Removes all.\ndefaults:\n  - _level\n  - _self_\n_target_: my_pruner_module.zero\nforce: 2.0  # how hard\n"
    )
    assert main(["run", IMAGE, "--config-dir", "my yaml", "pruner=mine", "pruner.sparsity=0.5"]) == 0
    (request,) = requests
    assert request.pruner_name == "mine" and request.sparsity == 0.5
    assert request.pruner.func.__name__ == "zero" and request.pruner.keywords == {"force": 2.0}
    capsys.readouterr()
    assert main(["run", "--help", "--config-dir=my yaml"]) == 0
    assert "Removes all." in (text := capsys.readouterr().out) and "how hard [mine]" in text
    file = tmp_path / "my yaml" / "pruner" / "mine.yaml"
    for target, word in (
        ("my_pruner_module.gone", "has no gone"),
        ("no_module_here.f", "no module"),
        ("f", "_target_"),
    ):
        file.write_text(f"defaults:\n  - _level\n  - _self_\n_target_: {target}\n")
        assert main(["run", IMAGE, "--config-dir", "my yaml", "pruner=mine"]) == 2
        assert word in capsys.readouterr().err


def test_cfg_prints_the_configuration(requests: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", IMAGE, "--cfg", "job", "pruner=obs"]) == 0
    assert "granularity: kernel" in capsys.readouterr().out and not requests


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert all(f"  {verb} " in text for verb in VERBS)
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"spade {verb}" in capsys.readouterr().out
    for arguments in (["--version"], ["run", "--version"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"spade {__version__}\n"


def test_unknown_verbs(refuse: Callable[..., str]) -> None:
    assert "did you mean spade run?" in refuse("rn")
    assert "spade run image=x" in refuse("image=x")
    assert "layers" in refuse("zzz")


def test_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["layers", "model=mobilenet_v2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[0] == "features.18.0" and "1280 x 320 x 1 x 1" in line and "yes" in line for line in lines)
    assert any("depthwise" in line and " if named " in line for line in lines) and "stem" in lines[1]
    assert main(["layers", "model=torchvision", "model.name=resnet51"]) == 2
    assert "resnet50" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_export_checks_its_arguments(refuse: Callable[..., str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert "RUN" in refuse("export")
    assert "no such run" in refuse("export", str(run), "out.pth")
    run.mkdir()
    assert "trace.safetensors" in refuse("export", str(run), "out.pth")
    (run / "trace.safetensors").write_bytes(b"")
    assert ".safetensors" in refuse("export", str(run), "out.txt")
    assert "suffix" in refuse("export", str(run), "out")
    assert "no folder" in refuse("export", str(run), "nowhere/out.pth")
    (tmp_path / "out.pth").write_text("mine")
    assert "--force" in refuse("export", str(run), "out.pth")
    assert (tmp_path / "out.pth").read_text() == "mine"


def test_export_calls_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from spade_cli import report

    seen: list[tuple[Path, Path]] = []
    monkeypatch.setattr(report, "export", lambda run, out: seen.append((run, out)))
    (tmp_path / "trace.safetensors").write_bytes(b"")
    (tmp_path / "old.pth").write_text("")
    assert main(["export", str(tmp_path), str(tmp_path / "old.pth"), "--force"]) == 0
    assert seen == [(tmp_path, tmp_path / "old.pth")]
