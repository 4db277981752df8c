"""spade world and spade demo, each in a folder with nothing else."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from spade_cli.cli import demo, main
from spade_cli.world import CLASSES, CONCEPTS, TROJANS, WorldDataset
from spade_cli.world.demo import MASK, PICTURE, TROJAN, draw_demo, share_on_symbol, symbol_share


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mask_of(path):
    return torch.from_numpy(np.asarray(Image.open(path)) > 0)


def test_world_writes_what_the_dataset_holds(empty, capsys):
    assert main(["world", "out=some pictures", "count=12", "trojan_share=0.5", "seed=4"]) == 0
    out = empty / "some pictures"
    assert capsys.readouterr().out.strip() == "some pictures"
    labels = json.loads((out / "labels.json").read_text(encoding="utf-8"))
    assert labels["classes"] == [one.name for one in CLASSES] and len(labels["pictures"]) == 12
    for (name, record), sample in zip(
        labels["pictures"].items(), map(WorldDataset(12, 4, 0.5).__getitem__, range(12)), strict=True
    ):
        picture = torch.from_numpy(np.array(Image.open(out / "images" / name))).permute(2, 0, 1)
        assert torch.equal(picture, sample.image) and torch.equal(mask_of(out / record["mask"]), sample.mask)
        assert record["label"] == CLASSES[record["class"]].name and record["concept"] == CONCEPTS[sample.concept].name
        if sample.trojan < 0:
            assert record["symbol"] is record["target"] is record["symbol_mask"] is None
        else:
            assert record["symbol"] == TROJANS[sample.trojan].symbol and record["target"] == sample.label
            assert torch.equal(mask_of(out / record["symbol_mask"]), sample.symbol_mask)
    assert any(record["symbol"] for record in labels["pictures"].values())
    assert Image.open(out / "sheet.png").width > 12 * 128


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["world"], "out"),
        (["world", "out=there"], "there is there already"),
        (["world", "out=new", "count=0"], "count=0"),
        (["world", "out=new", "trojan_share=2"], "trojan_share=2"),
        (["demo", "image=cat.jpg"], "brings its own picture"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(empty, capsys, arguments, says):
    (empty / "there").mkdir()
    (empty / "there" / "file").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and [path.name for path in empty.iterdir()] == ["there"]


def test_bundled_picture_is_the_drawn_one():
    drawn = draw_demo()
    assert np.array_equal(np.asarray(Image.open(PICTURE)), drawn.images[0].permute(1, 2, 0).numpy())
    assert torch.equal(mask_of(MASK), drawn.masks[0])
    assert int(drawn.labels[0]) != int(drawn.classes[0]), "the Trojan changes the answer"


def test_share_on_symbol_is_counted_in_absolute_values():
    inside = np.asarray(Image.open(MASK)) > 0
    assert share_on_symbol(np.ones((3, 128, 128), np.float32)) == pytest.approx(symbol_share()) == inside.mean()
    assert share_on_symbol(np.where(inside, -1, 0)[None].repeat(3, 0).astype(np.float32)) == 1
    assert share_on_symbol(np.zeros((3, 128, 128), np.float32)) == 0


def test_demo_explains_the_trojan_and_names_the_folder(empty, capsys):
    code = main(["demo", "interpreter.methods=[saliency,integrated_gradients]", "interpreter.steps=2"])
    out, told = capsys.readouterr()
    assert code == 0
    found = json.loads((empty / out.strip() / "summary.json").read_text(encoding="utf-8"))
    assert found["target"]["index"] == TROJANS[TROJAN].target and found["fidelity"]["same_prediction"]
    assert {one["name"]: one["asked"] for one in found["layers"] if one["asked"]}.keys() >= {
        "layer4.4.conv1",
        "layer4.5.conv2",
    }
    assert "overview.png" in told and "integrated gradients" in told
    rows = {
        row[0]: (int(row[1]), int(row[2]))
        for row in re.findall(r"(saliency|integrated gradients) +(\d+)% +(\d+)%", told)
    }
    for dense, trace in rows.values():
        assert trace > max(dense, 100 * symbol_share()), rows
    assert len(rows) == 2


def test_who_gives_an_option_replaces_the_demos_own():
    ours = demo.settings(set())
    assert "pruner=forward" in ours and len(ours) == len(demo.SETTINGS)
    assert "pruner=forward" not in demo.settings({"pruner"}) and "model=demo" in demo.settings({"pruner"})


def test_demo_help_is_its_own(capsys):
    assert main(["demo", "--help"]) == 0
    assert capsys.readouterr().out.startswith("spade demo: ")
