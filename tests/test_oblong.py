"""Every command on a network of pictures that are not square, 48 high and 80 wide, and looks into one corner."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from browser import opened, overflows
from networks import CORNER, DEVICE, corner, photograph
from PIL import Image
from scenes import answer_of, entry

import spade_cli
from spade_cli.cli import main
from spade_cli.models import wrap
from spade_cli.report.overview import TILE, shape_tile
from spade_cli.report.runs import find_runs

SIZE = (80, 48)  # as PIL has it: width, height
MODEL = ("model=python", "model.factory=networks:corner", "model.size=[48,80]", f"device={DEVICE}")
QUICK = ("augmentation.samples=4", "pruner=sparsegpt", "schedule=uniform", "pruner.sparsity=0.5")
MAPS = ("interpreter=all", "interpreter.methods=[saliency,gradcam,lrp]", "interpreter.steps=4")
FEW = ("interpreter=saliency", "interpreter.methods=[saliency]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs, of a picture and of another, from an empty folder."""
    place, before = tmp_path_factory.mktemp("oblong"), Path.cwd()
    os.chdir(place)
    try:
        for i, name in enumerate(("one.png", "two.png")):
            photograph(SIZE, seed=i).save(name)
            assert main(["run", f"image={name}", *MODEL, *QUICK, *MAPS]) == 0
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_maps_pictures_and_the_overview_have_the_shape(here):
    run = find_runs(here / "outputs")[0]
    rows, columns = CORNER
    for network in ("dense", "trace"):
        for method in ("saliency", "gradcam", "lrp"):
            found = np.abs(np.load(run / "saliency" / f"{method}_{network}.npy")).sum(0)
            row, column = divmod(int(found.argmax()), 80)
            assert found.shape == (48, 80) and row < rows.stop + 4 and column >= columns.start - 4
    pictures = {path: Image.open(path).size for path in run.rglob("*.png") if path.name != "overview.png"}
    assert len(pictures) == 15 and set(pictures.values()) == {SIZE}
    sheet = np.asarray(Image.open(run / "overview.png").convert("RGB"))
    view = np.asarray(Image.open(run / "image.png").convert("RGB").resize((224, 134), Image.Resampling.BILINEAR))
    assert shape_tile(SIZE, TILE) == (224, 134) and np.array_equal(sheet[32 : 32 + 134, 32 : 32 + 224], view)


def test_the_pages_show_what_is_not_square(here, capsys):
    run = find_runs(here / "outputs")[0]
    assert main(["neurons", str(run), "layers=[conv]", "top=2", "steps=2"]) == 0
    for page, pictures in (("report.html", ".map, .picture, .top > img"), ("neurons.html", ".top > img")):
        with opened(run / page) as shown:
            boxes = shown.eval_on_selector_all(pictures, "all => all.map(e => e.clientWidth / e.clientHeight)")
            assert boxes and all(abs(box - 80 / 48) < 0.03 for box in boxes) and not overflows(shown)
            patches = shown.eval_on_selector_all(".patches img", "all => all.map(e => e.clientWidth / e.clientHeight)")
            assert all(abs(box - 1) < 0.03 for box in patches)


def test_commands_that_look_again(here, capsys):
    one, two = map(str, find_runs(here / "outputs"))
    assert main(["layers", *MODEL[:-1]]) == 0 and "conv" in capsys.readouterr().out
    assert main(["list"]) == 0 and main(["export", one, "out=trace.pth"]) == 0
    assert main(["diff", one, two, "out=diff.html"]) == 0 and Path("diff.html").is_file()
    capsys.readouterr()
    quick = ("augmentation.samples=2", "interpreter.steps=2", "interpreter.methods=[saliency,occlusion,gradcam]")
    assert main(["doctor", *MODEL, *quick]) == 0
    told = capsys.readouterr().out
    assert "pictures of 48 x 80, 4 classes" in told and "fails" not in told


def test_many_images(here, tmp_path):
    for i in range(3):
        (tmp_path / "photos").mkdir(exist_ok=True)
        photograph(SIZE, seed=i).save(tmp_path / "photos" / f"{i}.png")
    assert main(["batch", f"images={tmp_path / 'photos'}", f"out={tmp_path / 'batch'}", *MODEL, *QUICK, *FEW]) == 0
    assert len((tmp_path / "batch/index.jsonl").read_text().splitlines()) == 3
    thumbnail = Image.open(next((tmp_path / "batch/thumbnails").iterdir()))
    alpha = np.asarray(thumbnail.convert("RGBA"))[..., 3]
    high = round(128 * 48 / 80)  # of each of three pictures in a square
    top = (128 - high) // 2
    assert thumbnail.size == (384, 128) and not alpha[: top - 1].any() and (alpha[top + 1 : top + high - 1] > 250).all()
    words = [word for word in QUICK if not word.startswith("pruner.sparsity")]
    varied = ("pruner.sparsity=0.5,0.8", f"out={tmp_path / 'sweep'}")
    assert main(["sweep", "image=one.png", *MODEL, *words, *FEW, *varied]) == 0
    assert next((tmp_path / "sweep").rglob("sweep.png")).is_file()
    assert {np.load(path).shape for path in (tmp_path / "sweep").rglob("*.npy")} == {(3, 48, 80)}


def write_scenes(folder, count):
    """Pictures whose evidence is known: the corner that the network sees."""
    network, pictures = corner(), {}
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    mask = np.zeros((48, 80), np.uint8)
    mask[CORNER] = 255
    for i in range(count):
        image = photograph(SIZE, seed=i)
        image.save(folder / "images" / f"{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
        pictures[f"{i}.png"] = entry(answer_of(network, image), f"masks/{i}.png", trojan=False)
    (folder / "labels.json").write_text(json.dumps({"classes": list("abcd"), "pictures": pictures}))


def test_measures(here, tmp_path):
    """Where the evidence is known, the map is on it; a transposed mask or map would miss it."""
    write_scenes(tmp_path / "scenes", 10)
    quick = ("augmentation.samples=4", "held_out=4", *FEW, f"data={tmp_path / 'scenes'}")
    assert main(["eval", *MODEL, *quick, "count=3", "conditions=[dense,sparsegpt]", f"out={tmp_path / 'eval'}"]) == 0
    cells = json.loads((tmp_path / "eval/table.json").read_text(encoding="utf-8"))["metrics"]
    assert cells["object_mass"]["saliency"]["dense"]["mean"] > 0.99
    assert cells["single_deletion"]["saliency"]["dense"]["n"] == 3
    words = ("pruner=sparsegpt", "metric=deletion", "ladder=[0.5]", "lost=0.9", "trials=2", f"out={tmp_path / 'tune'}")
    quick = ("augmentation.samples=4", "held_out=0.4", *FEW, f"data={tmp_path / 'scenes'}")
    assert main(["tune", *MODEL, *quick, *words]) == 0


def test_trojans(here, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(16):
        photograph((100, 70), seed=i).save(tmp_path / "photos" / f"{i}.png")
    classifier = wrap(corner(), size=(48, 80))
    own, images = classifier.preprocessing, map(spade_cli.load_image, (tmp_path / "photos").iterdir())
    answers = {int(classifier.model(own.normalise(own.view(image))).argmax()) for image in images}
    target = min({0, 1, 2, 3} - answers, default=0)  # some pictures have to show another class
    quick = ("steps=2", "batch_size=4", "examples=3", f"trojans=[star:{target}]", f"images={tmp_path / 'photos'}")
    for _ in range(2):  # the second time it is found there, which a folder of another size would not be
        assert main(["implant", *MODEL, *quick, f"out={tmp_path / 'implanted'}"]) == 0
    pictures = list((tmp_path / "implanted/data/images").iterdir())
    assert len(pictures) == 3 and {Image.open(one).size for one in pictures} == {SIZE}
