"""The command line: what reaches the pipeline, what is printed, and errors from below."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spade_cli.cli import VERBS, main, terminal
from spade_cli.cli.config.typed_words import quote, split_flags
from spade_cli.errors import SpadeError, UserError
from spade_cli.interpretation import METHODS, PAPER_METHODS
from spade_cli.run import pipeline
from spade_cli.run.request import RunRequest
from spade_cli.version import __version__

IMAGE = "image=cat.jpg"


def test_defaults(requests: list[RunRequest], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", IMAGE]) == 0
    (request,) = requests
    assert (request.image, request.output, request.model.name) == (Path("cat.jpg"), Path("outputs"), "resnet50")
    trace = request.trace
    assert (trace.sample_count, trace.level, trace.damping, trace.seed) == (256, None, 0.01, 0)
    assert (trace.pruner_name, trace.schedule_name, trace.augmentation_name) == ("forward", "auto", "paper")
    assert (trace.calibration.rows_per_column, request.target, request.device) == (32, "predicted", "auto")
    assert set(request.saliency) < set(METHODS) and request.visualize is not None and not request.visualization_targets
    assert request.command == "spade run image=cat.jpg" and "sparsity: null" in request.config
    assert capsys.readouterr().out == f"{Path('outputs/done')}\n"
    assert not Path("outputs").exists() and not list(Path().iterdir())  # Hydra leaves nothing


def test_settings_are_bound(requests: list[RunRequest]) -> None:
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
    assert request.trace.pruner.keywords == {"granularity": "weight"}
    assert request.trace.augmentation.keywords == {"std": 0.5}
    assert list(request.saliency) == list(PAPER_METHODS)
    assert request.saliency["occlusion"].keywords["window"] == 9
    assert request.saliency["lime"].keywords["seed"] == 7
    assert "seed" not in request.saliency["saliency"].keywords
    assert request.visualize.keywords["steps"] == 3
    assert request.visualization_targets == ("layer4.2:17", "tiger cat", 5)
    trace = request.trace
    assert trace.calibration.rows_per_column is None and trace.layer_shares == {"layer[34].*": 0.5, "fc": 0.0}


def test_smoothgrad_is_saliency_over_noisy_copies(requests: list[RunRequest], capsys) -> None:
    asked = "interpreter.methods=[smoothgrad,lrp,saliency]"
    assert main(["run", IMAGE, asked]) == 0
    assert list(requests[0].saliency) == ["saliency", "lrp"] and requests[0].saliency["saliency"].samples > 1
    for plain in ("interpreter.smoothing.samples=1", "interpreter.smoothing.noise=0"):
        assert main(["run", IMAGE, asked, plain]) == 2
        assert "smoothgrad is saliency over noisy copies; give interpreter.smoothing" in capsys.readouterr().err


def test_interpreters(requests: list[RunRequest]) -> None:
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
def test_any_name_of_a_file(requests: list[RunRequest], name: str) -> None:
    assert main(["run", f"image={name}", f"out={name}", f"model.weights={name}", f"target={name}"]) == 0
    (request,) = requests
    assert request.image == request.output == Path(name)
    assert request.model.weights == request.target == name


def test_home_is_expanded(requests: list[RunRequest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert main(["run", "image=~/a b.png"]) == 0
    assert requests[0].image == tmp_path / "a b.png"
    assert main(["run", "image=~nobody-of-this-name.png"]) == 0
    assert requests[1].image == Path("~nobody-of-this-name.png")


def test_quotes_of_the_users_own_are_kept() -> None:
    assert quote("image='a b.png'") == "image='a b.png'"
    assert quote("pruner=obs") == "pruner=obs" and quote("image=") == "image="
    assert quote("+image=é") == "+image='é'"


def test_flags_are_given_anywhere() -> None:
    typed = ["a=1", "-q", "--cfg", "job", "image=x", "-cd", "mine", "--config-dir=own"]
    assert split_flags(typed) == (["-q", "--cfg=job", "--config-dir=mine", "--config-dir=own"], ["a=1", "image=x"])


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


def test_views_reach_the_console(requests: list[RunRequest], capsys: pytest.CaptureFixture[str]) -> None:
    for flags, expected in (([], (False, False)), (["-q"], (True, False)), (["--plain"], (False, True))):
        made = terminal.console(flags)
        assert (made.quiet, made.no_color) == expected and made.stderr


def test_errors_from_below(
    requests: list[RunRequest], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_instead_of_m_there_is_sweep(refuse: Callable[..., str]) -> None:
    for flag in ("-m", "--multirun"):
        message = refuse("run", flag, "image=a.jpg,b.jpg")
        assert "leave out -m: spade sweep image=PATH KEY=VALUE,VALUE" in message and "spade batch" in message
    assert "leave out -m: spade eval takes one value of each setting" in refuse("eval", "-m", "seed=1,2")


@pytest.mark.parametrize("flag", ["--info", "--hydra-help", "--shell-completion=bash", "--cfg=all", "--resolve", "-p"])
def test_other_flags_of_hydras_are_none_of_spades(refuse: Callable[..., str], flag: str) -> None:
    assert ("write --cfg job" if "cfg" in flag else "is not a flag; see spade run --help") in refuse("run", IMAGE, flag)


def test_a_pruner_of_ones_own(requests: list[RunRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_pruner_module.py").write_text(
        "def zero(weight, hessian, sparsity, block, *, force=1.0):\n    return weight * 0\n"
    )
    (tmp_path / "my yaml" / "pruner").mkdir(parents=True)
    (tmp_path / "my yaml" / "pruner" / "mine.yaml").write_text(
        "# Removes all.\ndefaults:\n  - _level\n  - _self_\n_target_: my_pruner_module.zero\nforce: 2.0  # how hard\n"
    )
    assert main(["run", IMAGE, "--config-dir", "my yaml", "pruner=mine", "pruner.sparsity=0.5"]) == 0
    (request,) = requests
    assert request.trace.pruner_name == "mine" and request.trace.level == 0.5
    assert request.trace.pruner.func.__name__ == "zero" and request.trace.pruner.keywords == {"force": 2.0}
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


def test_cfg_prints_the_configuration(requests: list[RunRequest], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", IMAGE, "--cfg", "job", "pruner=obs"]) == 0
    assert "granularity: kernel" in (text := capsys.readouterr().out) and not requests
    assert "hydra" not in text and "seed: 0" in text


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    start = capsys.readouterr().out
    assert all(word in start for word in ("spade demo", "spade run image=", "spade --help", "spade completion"))
    for arguments in (["--help"], ["-h"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert all(f"  {verb} " in text for verb in VERBS)
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        assert f"spade {verb}" in capsys.readouterr().out
    for arguments in (["--version"], ["run", "--version"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"spade {__version__}\n"


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
    assert "out=trace.pth" in refuse("export")
    assert "not a folder" in refuse("export", str(run), "out=out.pth")
    run.mkdir()
    assert "summary.json" in refuse("export", str(run), "out=out.pth")
    (run / "summary.json").write_text("{}")
    assert "trace.safetensors" in refuse("export", str(run), "out=out.pth")
    (run / "trace.safetensors").write_bytes(b"")
    assert ".safetensors" in refuse("export", str(run), "out=out.txt")
    assert "suffix" in refuse("export", str(run), "out=out")
    assert "no folder" in refuse("export", str(run), "out=nowhere/out.pth")
    (tmp_path / "out.pth").write_text("mine")
    assert "--force" in refuse("export", str(run), "out=out.pth")
    assert (tmp_path / "out.pth").read_text() == "mine"


def test_export_calls_the_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from spade_cli.report import checkpoint

    seen: list[tuple[Path, Path]] = []
    monkeypatch.setattr(checkpoint, "export", lambda run, out: seen.append((run, out)))
    for name in ("trace.safetensors", "summary.json", "old.pth"):
        (tmp_path / name).write_text("")
    assert main(["export", str(tmp_path), f"out={tmp_path / 'old.pth'}", "--force"]) == 0
    assert seen == [(tmp_path, tmp_path / "old.pth")]
