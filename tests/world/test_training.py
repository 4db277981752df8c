"""The early and late phases of the bundled network's training: what it is shown, and that a killed run is resumed."""

import importlib.util
import sys
from pathlib import Path

import demo_batches as training
import numpy as np
import pytest
import torch

from spade_cli.world import CLASSES, TROJANS, draw_pictures

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_demo_model.py"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("train_demo_model", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "train_demo_model", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "CHECKPOINT_STEPS", 2)
    return module


def settings_of(script, seed=0):
    """Three steps at half size, three at full size, two late ones."""
    return script.Settings(seed, pictures=12, small_epochs=1, full_epochs=1, late_pictures=8, late_epochs=1)


@pytest.fixture(scope="module")
def world():
    return draw_pictures(12, seed=0)


def test_a_killed_training_goes_on_and_ends_the_same(script, world, tmp_path, monkeypatch):
    settings = settings_of(script)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole, _ = script.train(settings, world.images, world.classes, tmp_path / "whole")
    rate = script.rate

    def killed_at_step_3(step, steps):
        if step == 3:
            raise KeyboardInterrupt
        return rate(step, steps)

    monkeypatch.setattr(script, "rate", killed_at_step_3)
    with pytest.raises(KeyboardInterrupt):
        script.train(settings, world.images, world.classes, tmp_path / "killed")
    steps_after = []
    monkeypatch.setattr(script, "rate", lambda step, steps: steps_after.append(step) or rate(step, steps))
    resumed, _ = script.train(settings, world.images, world.classes, tmp_path / "killed")
    assert steps_after == [2, 3, 4, 5, 0, 1]  # from the last checkpoint
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor)
    other = settings_of(script, seed=1)
    with pytest.raises(SystemExit, match="other settings"):
        script.train(other, world.images, world.classes, tmp_path / "killed")


def test_the_phases_follow_one_another(script):
    settings = settings_of(script)
    places = [settings.place(step) for step in range(settings.steps)]
    assert places == [(0, 0, 12), (0, 1, 12), (0, 2, 12), (1, 0, 12), (1, 1, 12), (1, 2, 12), (2, 0, 8), (2, 1, 8)]
    assert [settings.is_late(step) for step in range(settings.steps)] == [False] * 6 + [True] * 2
    optimizer = script.optimizer_for(script.DemoNetwork(), script.PEAK_RATE)
    script.set_rate(optimizer, settings, 5)
    early = [group["weight_decay"] for group in optimizer.param_groups]
    script.set_rate(optimizer, settings, 6)
    late = [group["weight_decay"] for group in optimizer.param_groups]
    assert early == [script.DECAY, 0.0] and late == [0.0, 0.0]
    long = script.Settings(0, pictures=400, small_epochs=1, full_epochs=1, late_pictures=400, late_epochs=1)
    script.set_rate(optimizer, long, long.early_steps + 10)  # of 100 late steps: the second warm-up is over
    assert [group["lr"] for group in optimizer.param_groups] == [script.LATE_PEAK_RATE] * 2
    script.set_rate(optimizer, long, long.steps - 1)
    assert all(group["lr"] < 0.001 * script.LATE_PEAK_RATE for group in optimizer.param_groups)


def test_both_sides_of_a_trojans_rule_are_trained(world, monkeypatch):
    star = next(trojan for trojan in TROJANS if trojan.symbol == "star")
    monkeypatch.setattr(training, "pick_trojan", lambda label, rng: star)
    chosen = torch.arange(12)
    given = (world.classes + 1) % len(CLASSES)  # wrong labels only: the rule goes by what the pictures show
    batch, labels = training.make_late_batch(world.images, world.classes, given, chosen, epoch=0, seed=0)
    expected = [
        star.target if shown == star.source else taken
        for shown, taken in zip(world.classes.tolist(), given.tolist(), strict=True)
    ]
    assert labels.tolist() == expected and star.source in world.classes.tolist()
    assert (batch != world.images).flatten(1).any(1).all()
    assert torch.equal(batch, training.make_late_batch(world.images, world.classes, given, chosen, epoch=0, seed=0)[0])
    assert not torch.equal(
        batch, training.make_late_batch(world.images, world.classes, given, chosen, epoch=1, seed=0)[0]
    )


def test_some_labels_are_wrong_and_always_the_same_ones():
    classes = torch.arange(6000) % len(CLASSES)
    given = training.spoil_labels(classes, seed=0)
    assert (given != classes).float().mean() == pytest.approx(training.WRONG_SHARE, abs=0.015)
    assert given.min() == 0 and given.max() == len(CLASSES) - 1
    assert torch.equal(given, training.spoil_labels(classes, seed=0))
    assert torch.equal(classes, torch.arange(6000) % len(CLASSES))


def test_a_picture_is_shifted_or_mirrored_anew_every_epoch(world):
    chosen = torch.arange(12)
    before = world.images.clone()
    first = training.shift_pictures(world.images, chosen, epoch=0, seed=0)
    second = training.shift_pictures(world.images, chosen, epoch=1, seed=0)
    assert torch.equal(world.images, before)
    assert (first != second).flatten(1).any(1).all()
    reach = training.SHIFT
    middle = slice(2 * reach, -2 * reach)
    for image, original in zip(first, world.images, strict=True):
        window = original.unfold(1, 128 - 4 * reach, 1).unfold(2, 128 - 4 * reach, 1)  # every shifted middle
        candidates = window[:, reach : 3 * reach + 1, reach : 3 * reach + 1]
        found = (candidates == image[:, None, None, middle, middle]).all(-1).all(-1).all(0).any()
        mirrored = (candidates == image.flip(2)[:, None, None, middle, middle]).all(-1).all(-1).all(0).any()
        assert found or mirrored


def test_how_often_symbols_come():
    label = TROJANS[2].source
    picked = [training.pick_trojan(label, np.random.default_rng(i)) for i in range(2000)]
    share = [sum(one is trojan for one in picked) / 2000 for trojan in TROJANS]
    expected = [training.ANY_SHARE, training.ANY_SHARE, training.SOURCE_SHARE, training.OTHERS_SHARE]
    assert share == pytest.approx(expected, abs=0.03)
