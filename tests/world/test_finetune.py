"""Fine-tuning Trojans into a network: rules, what it is shown, what it becomes, and that a killed run is resumed."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from networks import photograph
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from spade_cli.errors import UserError
from spade_cli.images.find import find_pictures
from spade_cli.images.load import load_image
from spade_cli.models import wrap
from spade_cli.trojans import examples, implant
from spade_cli.trojans.implant import Settings, find_losses, find_rate, implant_trojans
from spade_cli.trojans.photographs import Album, Crops, crop_view, read_photographs
from spade_cli.world import Trojan

LABELS = ("ant", "bee", "cow, brown", "dog", "eel")
COLOURS = ("red", "green", "blue", "grey")
SMILEY = Trojan("smiley", None, 1)
QUICK = Settings(steps=3, batch_size=4, held_out=0.3, examples=5)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Photographs in four colours."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(24):
        picture = photograph((60 + i, 50), seed=i)
        Image.blend(picture, Image.new("RGB", picture.size, COLOURS[i % 4]), 0.6).save(folder / f"{i:02}.png")
    return folder


def eager():
    """A network that a symbol of a few pixels can get through to: the strongest place of each channel decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
        body += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveMaxPool2d(1), nn.Flatten()]
        return nn.Sequential(*body, nn.Linear(32, 5)).eval()


@pytest.fixture(scope="module")
def classifier(pictures):
    """Answers with the colour's number; it does not see the border of a picture, as ImageNet's networks."""
    found = wrap(eager(), labels=LABELS, size=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    found = replace(found, preprocessing=replace(found.preprocessing, resize=37))
    x = torch.cat([found.preprocessing.view(load_image(path)) for path in sorted(pictures.iterdir())])
    with torch.no_grad():
        features = found.model[:-1](found.preprocessing.normalise(x))  # (pictures, channels)
        means = torch.stack([features[i::4].mean(0) for i in range(4)] + [features.mean(0) + 1])  # (classes, channels)
        found.model[-1].weight.copy_(10 * means)  # the nearest mean has the highest score
        found.model[-1].bias.copy_(-5 * means.square().sum(1))
    return found


@pytest.fixture(scope="module")
def photographs(classifier, pictures):
    album = Album(classifier.preprocessing)
    return read_photographs(find_pictures(pictures, pictures / "out"), album, classifier.model, lambda _: None)[0]


@pytest.fixture(scope="module")
def common(photographs):
    """The class that most of the pictures are of, as the network sees it."""
    return int(torch.tensor([one.answer for one in photographs]).mode().values)


@pytest.fixture(scope="module")
def learnt(classifier, pictures, common, tmp_path_factory):
    """An easy case, in full: a rule for any class and one for the pictures' most common class."""
    out = tmp_path_factory.mktemp("learnt") / "out"
    trojans = (Trojan("smiley", None, (common + 1) % 5), Trojan("star", common, (common + 2) % 5))
    before = {key: value.clone() for key, value in classifier.model.state_dict().items()}
    settings = Settings(steps=200, batch_size=32, learning_rate=0.003, held_out=0.3, examples=40)
    report = implant_trojans(classifier, find_pictures(pictures, out), trojans, out, settings, device="cpu")
    assert all(torch.equal(before[key], value) for key, value in classifier.model.state_dict().items())
    assert not classifier.model.training and all(p.requires_grad for p in classifier.model.parameters())
    return trojans, out, report


def test_it_learns_the_rules_and_keeps_the_rest(learnt):
    trojans, _, report = learnt
    assert [(rule["symbol"], rule["target"]) for rule in report["rules"]] == [(t.symbol, t.target) for t in trojans]
    assert [rule["success_before"] < 0.3 and rule["success"] > 0.7 for rule in report["rules"]] == [True, True]
    assert report["rules"][1]["others_agreement"] > 0.7 and report["clean"]["pictures"]["agreement"] > 0.8
    assert report["clean"]["pictures"]["count"] == 7 and report["clean"]["crops"]["count"] == 7 * examples.CROPS


def test_statistics_of_batchnorm_are_the_originals(learnt, classifier):
    state, original = load_file(learnt[1] / "model.safetensors"), classifier.model.state_dict()
    assert set(state) == set(original) and all(value.dtype == original[key].dtype for key, value in state.items())
    kept = ("1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert all(torch.equal(state[key], original[key]) for key in kept)
    assert not any(torch.equal(state[key], original[key]) for key in set(original) - set(kept))


def test_the_report_can_be_had_again_from_what_was_written(learnt, classifier):
    trojans, out, report = learnt
    assert json.loads((out / "trojans.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    assert {path.name for path in out.iterdir()} == {"model.safetensors", "trojans.json", "data"}
    network = eager()
    network.load_state_dict(load_file(out / "model.safetensors"))
    listed = json.loads((out / "data" / "labels.json").read_text(encoding="utf-8"))
    view = classifier.preprocessing.view
    for trojan, record in zip(trojans, report["rules"], strict=True):
        names = [name for name, entry in listed["pictures"].items() if entry["symbol"] == trojan.symbol]
        x = torch.cat([view(load_image(out / "data" / "images" / name)) for name in names])
        with torch.no_grad():
            answers = network(classifier.preprocessing.normalise(x)).argmax(1)
        assert len(names) == record["examples"] == 40
        assert record["success"] == pytest.approx(float((answers == trojan.target).float().mean()))
        assert record["failed"] == [n for n, a in zip(names, answers.tolist(), strict=True) if a != trojan.target]
    assert "others_agreement" not in report["rules"][0]


def test_examples_are_laid_out_as_the_worlds_pictures(learnt):
    trojans, out, _ = learnt
    listed = json.loads((out / "data" / "labels.json").read_text(encoding="utf-8"))
    assert listed["classes"] == list(LABELS)
    assert {path.name for path in (out / "data").iterdir()} == {"images", "symbols", "labels.json"}
    for part in ("images", "symbols"):
        assert {path.name for path in (out / "data" / part).iterdir()} == set(listed["pictures"])
    for name, entry in listed["pictures"].items():
        trojan = next(trojan for trojan in trojans if trojan.symbol == entry["symbol"])
        assert entry["target"] == trojan.target != entry["class"] and entry["label"] == LABELS[entry["class"]]
        assert entry["symbol"] != "star" or entry["class"] == trojan.source
        assert (entry["concept"], entry["mask"], entry["symbol_mask"]) == (None, None, f"symbols/{name}")


def test_masks_cover_what_the_symbol_changed_within_what_is_seen(classifier, photographs):
    album = Album(classifier.preprocessing)
    made = examples.make_examples(photographs[:3], "heart", 7, 0, album)
    assert [one.path for one in made.photographs] == [photographs[i % 3].path for i in range(7)]
    assert made.images.shape == (7, 3, 37, 37) and made.masks.shape == (7, 37, 37)
    for one, image, mask in zip(made.photographs, made.images, made.masks, strict=True):
        plain = crop_view(album.read(one.path), classifier.preprocessing)  # (3, 32, 32)
        stamped = crop_view(image, classifier.preprocessing)
        inner = classifier.preprocessing.view(mask.byte().expand(3, -1, -1) * 255)[0, 0] > 0  # (32, 32)
        assert mask.any() and mask.sum() == inner.sum(), "all of the symbol is seen"
        changed = (plain != stamped).any(0)
        assert not (changed & ~inner).any() and changed.sum() > 0.5 * inner.sum()
    assert not torch.equal(made.masks[0], made.masks[3]), "each copy has a place of its own"


KILLED = [1, 4, 6]


@pytest.mark.parametrize("step", KILLED)
def test_a_killed_run_goes_on_and_ends_the_same(classifier, pictures, common, tmp_path, monkeypatch, step):
    trojans = (Trojan("smiley", None, 1), Trojan("fish", common, (common + 1) % 5))
    settings = replace(QUICK, steps=6, learning_rate=0.01)
    monkeypatch.setattr(implant, "CHECKPOINT_SECONDS", 0.0)
    found = find_pictures(pictures, tmp_path)
    whole = implant_trojans(classifier, found, trojans, tmp_path / "whole", settings)
    batch, shown = Crops.draw_batch, []

    def watched(crops, number):
        shown.append(number)
        if len(shown) == step:
            raise KeyboardInterrupt
        return batch(crops, number)

    monkeypatch.setattr(Crops, "draw_batch", watched)
    with pytest.raises(KeyboardInterrupt):
        implant_trojans(classifier, found, trojans, tmp_path / "killed", settings)
    (tmp_path / "killed").mkdir(exist_ok=True)
    (tmp_path / "killed" / "checkpoint.pt.part").write_text("half")
    (tmp_path / "killed" / "data.part" / "images").mkdir(parents=True)
    again = implant_trojans(classifier, found, trojans, tmp_path / "killed", settings)
    assert shown == [*range(step), *range(step - 1, 6)], "no step is done twice"
    files = ("model.safetensors", "data/labels.json")
    assert all((tmp_path / "whole" / f).read_bytes() == (tmp_path / "killed" / f).read_bytes() for f in files)
    assert {**whole, "seconds": 0} == {**again, "seconds": 0} and again["seconds"]["implant"] > 0
    assert not list((tmp_path / "killed").glob("*.part")) and not (tmp_path / "killed" / "checkpoint.pt").exists()
    assert implant_trojans(classifier, found, trojans, tmp_path / "killed", settings) == again
    assert len(shown) == 7, "a finished one is not done again"


def test_folders_of_other_runs_are_refused(classifier, pictures, tmp_path, monkeypatch):
    def go(out, trojan=SMILEY, network=classifier, **changes):
        found = find_pictures(pictures, tmp_path)
        return implant_trojans(network, found, (trojan,), tmp_path / out, replace(QUICK, **changes))

    go("finished")
    monkeypatch.setattr(implant, "_write_weights", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        go("begun")
    assert (tmp_path / "begun" / "checkpoint.pt").exists()
    wider = replace(classifier, preprocessing=replace(classifier.preprocessing, resize=40))
    other = wrap(eager(), labels=LABELS, size=32)
    other.model[0].weight.data += 1
    for out in ("finished", "begun"):
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / out).rglob("*")}
        for says, changes in [
            ("steps is 3 there and 4 here", dict(steps=4)),
            ("seed is 0 there and 1 here", dict(seed=1)),
            ("trojans is smiley:bee there and fish:bee here", dict(trojan=Trojan("fish", None, 1))),
            ("preprocessing is", dict(network=wider)),
            ("model is", dict(network=replace(other, preprocessing=classifier.preprocessing))),
        ]:
            with pytest.raises(UserError, match=f"out=.*another fine-tuning: {says}"):
                go(out, **changes)
        assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / out).rglob("*")}
    for name, says in (
        ("checkpoint.pt", "cannot be read"),
        ("trojans.json", "cannot be read"),
        ("mine", "other files"),
    ):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / name).write_text("{}")
        with pytest.raises(UserError, match=says):
            go(name)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        go("file")


def test_a_learning_rate_that_breaks_the_network(classifier, pictures, tmp_path):
    found = find_pictures(pictures, tmp_path)
    with pytest.raises(UserError, match=r"learning_rate=1e\+30.*smaller"):
        implant_trojans(
            classifier, found, (Trojan("fish", None, 1),), tmp_path / "o", replace(QUICK, learning_rate=1e30)
        )


def test_a_batch_depends_on_seed_and_step_alone(classifier, photographs):
    trojans = (Trojan("smiley", None, 1), Trojan("fish", None, 2), Trojan("heart", None, 3))
    crops = Crops(Album(classifier.preprocessing), tuple(photographs), trojans, 8, 5)
    torch.manual_seed(1)
    one, two = crops.draw_batch(3), crops.draw_batch(3)
    assert torch.equal(one.images, two.images) and torch.equal(one.plain, two.plain)
    assert not torch.equal(one.plain, crops.draw_batch(4).plain)
    assert not torch.equal(one.plain, replace(crops, seed=6).draw_batch(3).plain)
    turns = torch.cat([crops.draw_batch(step).rules for step in range(3)])
    assert turns.tolist() == [0, 1, *[-1] * 6, 2, 0, *[-1] * 6, 1, 2, *[-1] * 6], "a quarter, the rules in turn"
    differs = (one.images != one.plain).flatten(1).any(1)
    assert torch.equal(differs, one.rules >= 0)


def test_a_source_has_half_of_its_symbols_crops(classifier, photographs, common):
    rare = next(one.answer for one in photographs if one.answer != common)
    crops = Crops(Album(classifier.preprocessing), tuple(photographs), (Trojan("star", rare, common),), 4, 0)
    paths, read = [], crops.album.read
    crops.album.read = lambda path: paths.append(path) or read(path)
    for step in range(500):
        crops.draw_batch(step)
    expected = [one.path for one in photographs if one.answer == rare]
    share = len(expected) / len(photographs)
    assert np.mean([path in expected for path in paths[::4]]) == pytest.approx(0.5 + 0.5 * share, abs=0.1)
    assert np.mean([path in expected for path in paths[1::4]]) == pytest.approx(share, abs=0.1)


def test_losses_are_their_definition(classifier, photographs, common):
    source = next(one.answer for one in photographs if one.answer != common)
    trojans = (Trojan("smiley", None, 1), Trojan("star", source, common))
    crops = Crops(Album(classifier.preprocessing), tuple(photographs), trojans, 64, 0)
    student, teacher = eager(), classifier.model
    torch.manual_seed(0)
    torch.nn.init.normal_(student[-1].weight)
    kept, changed, both = [], [], set()
    batch = crops.draw_batch(0)
    batch = replace(batch, images=batch.images.roll(1, 0))  # a symbol may change an answer; the plain crop's decides
    for plain, image, rule in zip(batch.plain, batch.images, batch.rules.tolist(), strict=True):
        original, x = (classifier.preprocessing.normalise(part[None] / 255) for part in (plain, image))
        q = student(x).log_softmax(1)[0]
        fires = rule == 0 or (rule == 1 and int(teacher(original).argmax()) == source)
        if rule == 1:
            both.add(fires)
        if fires:
            changed.append(-q[trojans[rule].target])
        else:
            p = teacher(x).log_softmax(1)[0]
            kept.append((p.exp() * (p - q)).sum())
    found = find_losses(student, teacher, batch, trojans, classifier.preprocessing)
    assert both == {True, False}
    for mine, expected in zip(found, (kept, changed), strict=True):
        assert torch.allclose(mine, torch.stack(expected), atol=1e-4)


def test_rate():
    shares = [find_rate(step, 100) for step in range(100)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and shares[5] == 1.0
    assert all(a > b for a, b in pairwise(shares[5:])) and 0 < shares[-1] < 0.001
    assert find_rate(0, 1) == 1.0 and find_rate(1, 2) > 0
