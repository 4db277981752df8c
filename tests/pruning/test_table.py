"""schedule=PATH.yaml: shares by block, layer or glob, and every mistake in such a file as one line."""

from functools import partial

import pytest
from networks import DEVICE, photograph, small
from torchvision import models

import spade_cli
from spade_cli.cli import main
from spade_cli.cli.config.typed_words import split_flags
from spade_cli.cli.sweep import split_values
from spade_cli.errors import UserError
from spade_cli.pruning import find_layers, schedule
from spade_cli.pruning.layers import find_layers as layers_of


def test_blocks_layers_and_globs_and_later_entries_win():
    layers = layers_of(models.resnet18(weights=None))
    shares = {"layer4.1": 0.9, "layer4.*": 0.5, "layer4.1.conv2": 0.8, "layer3.1": 0.7, "fc": 0.6}
    found = schedule.table(layers, 0.1, shares=shares)
    expected = {name: 0.5 for name in (layer.name for layer in layers) if name.startswith("layer4.")}
    expected |= {"layer4.1.conv2": 0.8, "layer3.1.conv1": 0.7, "layer3.1.conv2": 0.7, "fc": 0.6}
    assert found == expected, "the level is not used"
    assert schedule.table(layers, None, shares={"layer4.*": 0.5, "layer4.1": 0.9})["layer4.1.conv1"] == 0.9
    assert schedule.table(layers, None, shares={}) == {}
    assert schedule.settle_shares(partial(schedule.table, shares=shares), layers, None, {"fc": 0.0}).given["fc"] == 0.0


@pytest.mark.parametrize(
    ("shares", "said"),
    [({"layer9": 0.5}, "layer9 matches no layer"), ({"fc": 1.5}, "1.5 is not a share"), ({"norm": 0.5}, "norm")],
)
def test_a_name_that_is_not_there_is_one_line(shares, said):
    with pytest.raises(UserError, match=said):
        schedule.table(find_layers(models.resnet18(weights=None)), None, shares=shares, source="schedule=mine.yaml")


def test_from_python():
    trace = spade_cli.trace(
        spade_cli.wrap(small(), size=32),
        photograph(),
        samples=4,
        schedule=partial(schedule.table, shares={"conv2": 0.5}),
    )
    assert {layer.name: layer.asked for layer in trace.layers if layer.asked} == {"conv2": 0.5}


def test_a_path_is_typed_like_a_choice():
    assert split_flags(["schedule=my own/a,b.yaml"])[1] == ["schedule=table", "schedule.file=my own/a,b.yaml"]
    assert split_flags(["schedule=late", "out=x.yaml"])[1] == ["schedule=late", "out=x.yaml"]
    _, fixed, varied = split_values(["schedule=a.yml,b c.yaml"])
    assert fixed == ["schedule=table"]
    assert varied == {"schedule.file": ["schedule.file='a.yml'", "schedule.file='b c.yaml'"]}


FILES = {
    "brackets.yaml": ("a: [", "cannot be read as YAML"),
    "other.yaml": ("depth: 1", "has depth in it, not shares alone"),
    "empty.yaml": ("", "has nothing in it"),
    "much.yaml": ("shares: {fc: 2}", "the share of fc=2 is not a number from 0 to 1"),
    "words.yaml": ("hello", "not shares alone"),
    "wrong.yaml": ("shares: {layer9: 0.5}", "schedule=wrong.yaml: layer9 matches no layer"),
    "absent.yaml": (None, "schedule=absent.yaml is not there"),
}


def test_a_file_that_is_no_table_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photograph().save("picture.png")
    network = ["model=python", "model.factory=networks:small", "model.size=32", f"device={DEVICE}"]
    for name, (content, said) in FILES.items():
        if content is not None:
            (tmp_path / name).write_text(content)
        before = sorted(tmp_path.rglob("*"))
        assert main(["run", "image=picture.png", *network, f"schedule={name}"]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("spade: ")]
        assert len(error) == 1 and said in error[0], error
        assert sorted(tmp_path.rglob("*")) == before
