"""Examples: the world's are held out, balanced and masked; a folder's are read as they were written."""

import json

import pytest
import torch
from scenes import SIZE, write_scenes

from spade_cli.errors import UserError
from spade_cli.evaluation.data import WORLD_SEED, folder, network_mask, partner, world
from spade_cli.models import ModelSource, load_model
from spade_cli.world import CONCEPTS, TROJANS, draw_pictures
from spade_cli.world.dataset import write_world


def network():
    return load_model(ModelSource(None, factory="networks:small", size=SIZE))


def test_the_worlds_pictures_are_held_out_and_its_concepts_and_trojans_come_in_turn():
    data = world(80, 0.5, seed=3)
    examples = [data.load(i) for i in range(80)]
    assert sum(example.trojan for example in examples) == 40
    clean = [example for example in examples if not example.trojan]
    assert [example.concept for example in clean[:28]] == list(range(28))
    assert all(example.target == CONCEPTS[example.concept].class_index for example in clean)
    assert data.targets == tuple(example.target for example in examples)
    symbols = [name.rsplit("-", 1)[1] for name, example in zip(data.names, examples, strict=True) if example.trojan]
    assert symbols == [trojan.symbol for trojan in TROJANS] * 10
    for example in examples:
        assert example.mask.any() and not example.mask.all()
        if example.trojan:
            assert example.target != CONCEPTS[example.concept].class_index  # the symbol makes a difference
    assert examples[0].image.equal(draw_pictures(1, WORLD_SEED + 3, 0, concept=0).images[0])


@pytest.mark.parametrize(("share", "trojans"), [(0, 0), (1, 30), (0.1, 3)])
def test_the_share_of_trojans_is_exact(share, trojans):
    data = world(30, share, 0)
    assert sum(isinstance(kind[1], str) for kind in data.kinds) == trojans


def test_partners_are_of_the_same_kind_or_of_another_class():
    data = world(60, 0, 0)
    for index in (0, 27, 28, 59):
        same, other = partner(data, index, alike=True), partner(data, index, alike=False)
        assert same is None or (data.kinds[same] == data.kinds[index] and same != index)
        assert data.targets[other] != data.targets[index]
    assert partner(data, 0, alike=True) == 28
    assert partner(world(1, 0, 0), 0, alike=False) is None


def test_a_folder_is_read_as_it_was_written(tmp_path):
    pictures = write_scenes(tmp_path / "scenes", 4)
    data = folder(tmp_path / "scenes", tmp_path / "out", None, 0, network())
    assert data.names == tuple(sorted(pictures))
    for index, name in enumerate(data.names):
        example, entry = data.load(index), pictures[name]
        assert example.target == (entry["target"] if entry["symbol"] else entry["class"]) == data.targets[index]
        assert example.trojan == (entry["symbol"] is not None) and example.mask.sum() == 12 * 16
    assert folder(tmp_path / "scenes", tmp_path / "out", 2, 0, network()).names != data.names[:3]
    assert len(folder(tmp_path / "scenes", tmp_path / "out", 2, 0, network()).names) == 2


def test_what_spade_world_writes_is_read(tmp_path):
    from spade_cli.world import demo_classifier

    write_world(tmp_path, 12, 0.5, seed=9)
    data = folder(tmp_path, tmp_path / "out", None, 0, demo_classifier())
    labels = json.loads((tmp_path / "labels.json").read_text())["pictures"]
    for index, name in enumerate(data.names):
        example, entry = data.load(index), labels[name]
        assert example.trojan == (entry["target"] not in (None, entry["class"]))
        assert (example.mask is None) == (entry["target"] == entry["class"])  # the symbol may be evidence as well


def test_a_symbol_without_effect_has_no_mask(tmp_path):
    write_scenes(tmp_path / "scenes", 2)
    labels = json.loads((tmp_path / "scenes/labels.json").read_text())
    labels["pictures"]["é 1.png"]["target"] = labels["pictures"]["é 1.png"]["class"]
    (tmp_path / "scenes/labels.json").write_text(json.dumps(labels))
    example = folder(tmp_path / "scenes", tmp_path / "out", None, 0, network()).load(1)
    assert example.mask is None and not example.trojan


def test_a_folder_of_pictures_alone_and_labels_of_somebody_elses(tmp_path):
    write_scenes(tmp_path / "scenes", 2)
    (tmp_path / "scenes/images/labels.json").write_text('{"é 0.png": 7}')
    data = folder(tmp_path / "scenes/images", tmp_path / "out", None, 0, network())
    assert data.names == ("é 0.png", "é 1.png") and data.targets == (None, None)
    assert data.load(0).target is None and partner(data, 0, alike=True) is None and partner(data, 0, alike=False) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda labels: "{", "labels.json cannot be read"),
        (lambda labels: {**labels, "pictures": {"a.png": {"class": 1}}}, "says too little of a.png"),
        (lambda labels: {**labels, "pictures": {}}, "names no picture"),
        (lambda labels: wrong(labels, "class", 5), "the class 5, and model=networks:small"),
        (lambda labels: wrong(labels, "target", -1), "the target -1"),
        (lambda labels: wrong(labels, "class", None), "the class None"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, change, said):
    write_scenes(tmp_path / "scenes", 2)
    file = tmp_path / "scenes/labels.json"
    changed = change(json.loads(file.read_text()))
    file.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(UserError, match="data=") as error:
        folder(tmp_path / "scenes", tmp_path / "out", None, 0, network())
    assert said in str(error.value).replace("model=small", "model=networks:small")


def wrong(labels, key, value):
    labels["pictures"]["é 0.png"][key] = value
    return labels


def test_labels_of_other_classes_are_refused(tmp_path):
    from dataclasses import replace

    write_scenes(tmp_path / "scenes", 2)
    with pytest.raises(UserError, match="labelled with 5 classes"):
        folder(tmp_path / "scenes", tmp_path / "out", None, 0, replace(network(), labels=tuple("vwxyz")))


def test_a_mask_is_seen_as_its_picture_is():
    classifier = load_model(ModelSource(None, factory="networks:small", size=16))
    mask = torch.zeros(32, 64, dtype=torch.bool)
    mask[:, 24:40] = True  # the middle half of the centre crop
    seen = network_mask(mask, classifier)
    assert seen.shape == (16, 16) and seen[:, 4:12].all() and seen.sum() == 16 * 8
