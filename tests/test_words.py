"""One word for one thing on every command: out=, KEY=VALUE, flags, and what a slip may have been meant as."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spade_cli.cli import SYNONYMS, VERBS, main
from spade_cli.cli.config.read_yaml import CONFIGS, read_command
from spade_cli.cli.config.typed_words import rewrite_words
from spade_cli.run.request import RunRequest

IMAGE = "image=cat.jpg"
ROOT = Path(__file__).parents[1]


# out=


@pytest.mark.parametrize("older", [["output=kept x"], ["--output", "kept x"], ["--output=kept x"], ["--out", "kept x"]])
def test_older_words_for_out_are_understood_and_say_so_once(
    requests: list[RunRequest], capsys: pytest.CaptureFixture[str], older: list[str]
) -> None:
    command = ["run", IMAGE]
    assert main([*command, *older]) == 0
    assert {request.output for request in requests} == {Path("kept x")}
    told = capsys.readouterr().err
    assert "write out=kept x" in told and told.count("\n") == 1
    assert main([*command, *older, "--quiet"]) == 0 and capsys.readouterr().err == ""
    assert main([*command, "out=kept x"]) == 0 and capsys.readouterr().err == ""


def test_an_error_stays_one_line_beside_an_older_word(refuse: Callable[..., str]) -> None:
    assert "seed=-1" in refuse("run", IMAGE, "output=kept", "seed=-1")
    assert "write out=FOLDER" in refuse("run", IMAGE, "--output")


def test_every_command_that_writes_calls_the_place_out() -> None:
    for file in CONFIGS.glob("*.yaml"):
        keys = [setting.key for setting in read_command(file.stem, [])[0]]
        assert "output" not in keys, file
        assert file.stem.startswith("_") or file.stem in ("layers", "doctor") or "out" in keys, file


def test_worlds_folder_without_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["world", "count=1", "some pictures"]) == 0
    out, told = capsys.readouterr()
    assert out == "some pictures\n" and told.endswith("hint: write out=some pictures; a bare folder is an older way\n")
    assert main(["world", "out=others", "count=1", "--json", "-q"]) == 0
    out, told = capsys.readouterr()
    assert json.loads(out) == {"folder": "others", "pictures": 1} and told == ""
    assert main(["toy", "-q", "--json"]) == 0 and json.loads(capsys.readouterr().out) == {"picture": "toy.png"}


# settings and flags


def test_the_rule_is_stated_and_the_flags_are_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "Settings are KEY=VALUE" in text and "takes no value" in text and "out=" in text
    for verb in set(VERBS) - {"demo"}:  # which refers to run
        assert main([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert all(f"{flag} " in text for flag in ("--quiet", "--plain", "--json")), verb
        assert text.startswith(f"spade {verb}: ") and "usage: spade" in text


def test_lists_need_no_brackets(requests: list[RunRequest]) -> None:
    words = ["interpreter.methods=saliency,lrp", "interpreter.targets=tiger cat,layer4.2:17,5", "keep=report"]
    words += ["augmentation.scale=0.3,0.9", "model.mean=0.1,0.2,0.3"]
    assert main(["run", IMAGE, *words]) == 0
    (request,) = requests
    assert list(request.saliency) == ["saliency", "lrp"] and request.keep == ("report",)
    assert request.visualization_targets == ("tiger cat", "layer4.2:17", 5)
    assert request.trace.augmentation.keywords["scale"] == (0.3, 0.9) and request.model.mean == (0.1, 0.2, 0.3)


def test_lists_are_those_of_the_yaml_files() -> None:
    for word in ("metrics=fidelity,insertion", "schedule.ladder=0.9,0.8"):
        key, _, value = word.partition("=")
        assert rewrite_words("eval", [word]) == [f"{key}=[{value}]"]
    for word in ("interpreter.methods=all", "interpreter.methods=[saliency]", "keep=none", "seed=1,2", "keep=[]"):
        assert rewrite_words("eval", [word]) == [word]
    assert rewrite_words("sweep", ["interpreter.methods=saliency,lrp"]) == ["interpreter.methods=saliency,lrp"]


def test_any_network_of_torchvision_by_its_name(requests: list[RunRequest]) -> None:
    assert main(["run", IMAGE, "model=resnet34"]) == 0
    assert (requests[0].model.name, requests[0].model.library) == ("resnet34", "torchvision")
    assert requests[0].command == "spade run image=cat.jpg model=torchvision model.name=resnet34"
    assert rewrite_words("run", ["model=resnet18"]) == ["model=resnet18"]  # it has a YAML file
    assert rewrite_words("sweep", ["model=resnet18,resnet34"]) == ["model=torchvision", "model.name=resnet18,resnet34"]
    for word in ("model=resnet18,vit_b_16", "model=resnet34,mine", "model=resnet51", "model=timm"):
        assert rewrite_words("sweep", [word]) == [word]


def test_a_users_network_comes_before_torchvisions(requests: list[RunRequest], tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "resnet34.yaml").write_text(
        "# Mine.\ndefaults:\n  - _source\n  - _self_\nname: resnet34\nsize: 99\n"
    )
    assert main(["run", IMAGE, "model=resnet34", "--config-dir=mine"]) == 0
    assert requests[0].model.size == 99


def test_version_and_help_as_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0 and capsys.readouterr().out.startswith("spade ")
    assert main(["help", "neurons"]) == 0 and capsys.readouterr().out.startswith("spade neurons: ")
    assert main(["run", "image=x", "--cfg=job"]) == 0 and "image: x" in capsys.readouterr().out
    assert set(SYNONYMS.values()) <= set(VERBS) and not set(SYNONYMS) & set(VERBS)


MEANT = [
    (["explain"], "did you mean spade run?"),
    (["explain", "my cat.jpg"], "did you mean spade run 'image=my cat.jpg'?"),
    (["my", "cat.jpg"], "did you mean spade run 'image=my cat.jpg'?"),
    (["cat.jpg"], "did you mean spade run image=cat.jpg?"),
    (["show"], "did you mean spade open?"),
    (["run", "image=my", "cat.jpg"], "did you mean 'image=my cat.jpg'? a value with blanks needs quotes"),
    (["run", "image=my", "old", "cat.jpg", "seed=1"], "did you mean 'image=my old cat.jpg'?"),
    (["run", IMAGE, "target=tiger", "cat"], "did you mean 'target=tiger cat'?"),
    (["run", "cat.jpg"], "did you mean image=cat.jpg?"),
    (["batch", "photos/a.jpg"], "did you mean images=photos/a.jpg?"),
    (["run", IMAGE, "sparsegpt"], "did you mean pruner=sparsegpt?"),
    (["run", IMAGE, "none"], "did you mean augmentation=none or schedule=none?"),
    (["run", IMAGE, "seed", "=", "1"], "without blanks around the ="),
    (["run", IMAGE, "seed=", "=1"], "without blanks around the ="),
    (["run", IMAGE, "seed"], "give seed its value: seed=VALUE"),
    (["run", IMAGE, "--seed", "7"], "settings are written KEY=VALUE: seed=7"),
    (["run", IMAGE, "--sparsity=0.5"], "pruner.sparsity=0.5"),
    (["run", IMAGE, "--batch-size", "7"], "calibration.batch_size=7"),
    (
        ["run", IMAGE, "seed=1,2"],
        "seed=1,2 has several values, and spade run takes one; spade sweep explains with each",
    ),
    (["run", IMAGE, "seed=range(1,3)"], "seed=range(1,3) has several values, and spade run takes one"),
    (["eval", "seed=1,2"], "seed=1,2 has several values, and spade eval takes one"),
    (["run", IMAGE, "model=resnet34,resnet18"], "model.name=resnet34,resnet18 has several values"),
    (["run", IMAGE, "+seed=1"], "write seed=VALUE, without the +"),
    (["run", IMAGE, "~sead"], "'sead' does not exist"),
    (["run", IMAGE, "pruner=null"], "a pruner is chosen by its name; there are forward"),
    (["run", IMAGE, "--config-dir"], "write --config-dir FOLDER"),
    (["run", IMAGE, "--cfg"], "write --cfg job"),
    (["run", IMAGE, "--cfg", "jop"], "write --cfg job"),
    (["list", "outt=x"], "outt is not a setting of spade list; did you mean out=VALUE?"),
    (["list", "a", "b"], "takes FOLDER, and found 'a' 'b'"),
    (["open", "--prnt"], "did you mean --print?"),
    (["open", "--top=1"], "--top=1 is not a flag of spade open"),
    (["neurons", "top=0"], "top=0 is not a whole number of at least 1"),
    (["neurons", "--steps"], "write steps=VALUE"),
    (["export", "out="], "out is empty"),
    (["diff", "one"], "give RUN twice"),
]


@pytest.mark.parametrize("meant", MEANT, ids=lambda meant: " ".join(meant[0]))
def test_what_was_meant_is_said(refuse: Callable[..., str], meant: tuple[Any, ...]) -> None:
    arguments, *parts = meant
    message = refuse(*arguments)
    assert all(part in message for part in parts), message
    assert not [word for word in ("hydra", "override", "multirun", "compose") if word in message.lower()]


# English


ODD = re.compile(r"(?<!there )is none|\bmend|spade: spade|of inference mode or empty")
PACKAGE = ROOT / "spade_cli"


def said_by(file: Path) -> list[str]:
    """The texts of a file but for its docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, described)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if text not in docstrings]


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_errors_are_plain_english(file: Path) -> None:
    assert not [text for text in said_by(file) if ODD.search(text)]
