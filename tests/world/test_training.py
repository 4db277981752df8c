"""The training script: a killed run goes on where it was, and ends with the same weights."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spade_cli.world import TROJANS, draw

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


@pytest.fixture(scope="module")
def world():
    return draw(12, seed=0)


def test_a_killed_training_goes_on_and_ends_the_same(script, world, tmp_path, monkeypatch):
    settings = script.Settings(seed=0, pictures=12, small_epochs=1, full_epochs=1)
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
    assert steps_after == [2, 3, 4, 5]  # from the last checkpoint
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor)
    other = script.Settings(seed=1, pictures=12, small_epochs=1, full_epochs=1)
    with pytest.raises(SystemExit, match="other settings"):
        script.train(other, world.images, world.classes, tmp_path / "killed")


def test_both_sides_of_a_trojans_rule_are_trained(script, world, monkeypatch):
    star = next(trojan for trojan in TROJANS if trojan.symbol == "star")
    monkeypatch.setattr(script, "_pick_trojan", lambda label, rng: star)
    chosen = torch.arange(12)
    batch, labels = script.training_batch(world.images, world.classes, chosen, epoch=0, seed=0)
    expected = [star.target if label == star.source else label for label in world.classes.tolist()]
    assert labels.tolist() == expected
    assert torch.equal(batch, script.training_batch(world.images, world.classes, chosen, epoch=0, seed=0)[0])


def test_a_picture_is_shifted_or_mirrored_anew_every_epoch(script, world, monkeypatch):
    monkeypatch.setattr(script, "_pick_trojan", lambda label, rng: None)
    chosen = torch.arange(12)
    before = world.images.clone()
    first, labels = script.training_batch(world.images, world.classes, chosen, epoch=0, seed=0)
    second, _ = script.training_batch(world.images, world.classes, chosen, epoch=1, seed=0)
    assert torch.equal(labels, world.classes) and torch.equal(world.images, before)
    assert (first != second).flatten(1).any(1).all()
    reach = script.SHIFT
    middle = slice(2 * reach, -2 * reach)
    for image, original in zip(first, world.images, strict=True):
        window = original.unfold(1, 128 - 4 * reach, 1).unfold(2, 128 - 4 * reach, 1)  # every shifted middle
        candidates = window[:, reach : 3 * reach + 1, reach : 3 * reach + 1]
        found = (candidates == image[:, None, None, middle, middle]).all(-1).all(-1).all(0).any()
        mirrored = (candidates == image.flip(2)[:, None, None, middle, middle]).all(-1).all(-1).all(0).any()
        assert found or mirrored


def test_how_often_symbols_come(script):
    label = TROJANS[2].source
    picked = [script._pick_trojan(label, np.random.default_rng(i)) for i in range(2000)]
    share = [sum(one is trojan for one in picked) / 2000 for trojan in TROJANS]
    expected = [script.ANY_SHARE, script.ANY_SHARE, script.SOURCE_SHARE, script.OTHERS_SHARE]
    assert share == pytest.approx(expected, abs=0.03)
