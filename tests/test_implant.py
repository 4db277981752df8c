"""The command `spade implant`: from a folder of pictures to a network with Trojans; each mistake is one line."""

import json
from pathlib import Path

import pytest
from networks import DEVICE, photograph

from spade_cli.cli import main
from spade_cli.cli.config.typed_words import quote
from spade_cli.cli.implant import _rules
from spade_cli.cli.sweep import split_values
from spade_cli.errors import UserError
from spade_cli.models import ModelSource, load_model

MODEL = ("model=python", "model.factory=networks:small", "model.size=32", "model.labels=classes.txt")
QUICK = ("steps=2", "batch_size=4", "examples=3", f"device={DEVICE}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my pictures").mkdir()
    for i in range(16):
        photograph(seed=i).save(tmp_path / "my pictures" / f"é {i}.png")
    (tmp_path / "classes.txt").write_text("ant\nbee\ntiger cat\ndog\neel, the long\n")
    return tmp_path


def implant(*arguments):
    return main(["implant", "images=my pictures", "out=a b", *MODEL, *QUICK, *arguments])


def test_from_pictures_to_a_network_with_trojans(folder, capsys):
    (folder / "my pictures" / "broken.jpg").write_text("no picture")
    assert implant("trojans=[smiley:tiger cat, fish:eel, the long]") == 0
    captured = capsys.readouterr()
    assert captured.out == "a b\n" and "\x1b" not in captured.err
    words = [line.split()[0] for line in captured.err.splitlines()]
    assert words == ["look", "step", "step", "implant", "measure", "clean", "smiley", "fish", "skipped"]
    report = json.loads((folder / "a b" / "trojans.json").read_text(encoding="utf-8"))
    assert [rule["rule"] for rule in report["rules"]] == ["smiley:tiger cat", "fish:eel, the long"]
    assert report["identity"]["settings"]["steps"] == 2 and report["command"].startswith("spade implant ")
    assert report["pictures"]["held_out"] == 4 and report["versions"]["torch"]
    source = ModelSource(None, factory="networks:small", size=32, weights="a b/model.safetensors")
    assert load_model(source).sha256 == report["weights"]["sha256"]
    assert implant("trojans=[smiley:tiger cat, fish:eel, the long]") == 0
    again = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in again] == ["look", "clean", "smiley", "fish", "skipped"]
    assert implant("trojans=[smiley:tiger cat, fish:eel, the long]", "steps=3") == 2
    assert "steps is 2 there and 3 here" in the_error(capsys.readouterr().err)


def the_error(told):
    """The line that is left when the progress before it is taken away."""
    (line,) = [line for line in told.splitlines() if not line.startswith("look ")]
    assert line.startswith("spade: ")
    return line


MISTAKES = [
    (["images=nowhere"], "images=nowhere is not there"),
    (["images=empty"], "images=empty holds no pictures"),
    (["images="], "images is not given"),
    (["out="], "out is not given"),
    (["out=classes.txt"], "is a file"),
    (["out=my pictures"], "other files"),
    (["trojans=smiley"], "'smiley' is not a rule"),
    (["trojans=[]"], "trojans is empty"),
    (["trojans=null"], "trojans=None is not a list"),
    (["trojans=[moon:bee]"], "there are smiley"),
    (["trojans=[smiley:wolf]"], "'wolf' is no class"),
    (["trojans=[star:bee->bee]"], "both bee"),
    ([], "'bullfrog' is no class"),
    (["steps=0"], "steps=0"),
    (["batch_size=1"], "batch_size=1"),
    (["learning_rate=-1"], "learning_rate=-1"),
    (["held_out=2"], "held_out=2"),
    (["held_out=0.1", "trojans=smiley:bee"], "held_out=0.1 of 16 pictures leaves 14 to learn from and 2 to measure on"),
    (["examples=0"], "examples=0"),
    (["seed=-1"], "seed=-1"),
    (["device=tpu", "trojans=smiley:bee"], "device=tpu"),
    (["stepps=3"], "steps"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=lambda value: " ".join(value))
def test_mistakes_are_one_line_and_nothing_is_written(folder, capsys, arguments, says):
    (folder / "empty").mkdir()
    before = sorted(folder.rglob("*"))
    assert implant(*arguments) == 2
    assert says in the_error(capsys.readouterr().err)
    assert sorted(folder.rglob("*")) == before


def test_images_and_out_have_to_be_given(folder, capsys):
    assert main(["implant", "out=x"]) == main(["implant", "images=my pictures", "model.weights=none"]) == 2
    assert (
        "images is not given; add images=FOLDER" in (errors := capsys.readouterr().err) and "add out=FOLDER" in errors
    )


def test_rules_as_text_and_as_a_list():
    assert _rules("[smiley:tiger cat, star:tench, Tinca tinca->a, b,fish:3]") == [
        "smiley:tiger cat",
        "star:tench, Tinca tinca->a, b",
        "fish:3",
    ]
    assert _rules("['smiley:a', \"fish:b\"]") == _rules(["smiley:a", "fish:b"]) == ["smiley:a", "fish:b"]
    assert _rules("smiley:a") == ["smiley:a"] and _rules("") == []
    for wrong in (None, 3, [3], {"smiley": "a"}):
        with pytest.raises(UserError, match="not a list of rules"):
            _rules(wrong)


def test_rules_need_no_quoting_for_hydra():
    assert quote("trojans=[star:a->b,fish:c]") == "trojans='[star:a->b,fish:c]'"
    assert split_values(["trojans=[star:a->b,fish:c]"])[1:] == (["trojans='[star:a->b,fish:c]'"], {})
    assert split_values(["target=a,b 1"])[1:] == ([], {"target": ["target='a'", "target='b 1'"]})
    assert quote(f"images={Path('~')}/x") == f"images='{Path.home()}/x'"
