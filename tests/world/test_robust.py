"""The robust phase of the bundled network's training: the attack by its definition; a killed run is resumed."""

import demo_robust
import pytest
import torch
from demo_robust import RobustSettings, attack, train_robustly
from torch import nn

from spade_cli.world import DemoNetwork, draw_pictures, load_demo_network, normalise_pictures

RADIUS = 0.6


@pytest.fixture(scope="module")
def world():
    return draw_pictures(8, seed=0)


def attack_one(network, picture, label):
    """Two steps along the gradient's direction, each 0.7 of the radius; back into the ball, back into the colours."""
    moved = picture.clone()
    for _ in range(2):
        moved.requires_grad_()
        loss = -network(normalise_pictures(255 * moved[None]))[0].log_softmax(0)[label]
        gradient = torch.autograd.grad(loss, moved)[0]
        change = moved.detach() + 0.7 * RADIUS * gradient / gradient.pow(2).sum().sqrt() - picture
        length = change.pow(2).sum().sqrt()
        if length > RADIUS:
            change = change * RADIUS / length
        moved = (picture + change).clip(0, 1)
    return moved


def test_attack_is_projected_gradient_ascent(world):
    network = load_demo_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    pictures, labels = world.images[:3] / 255, world.classes[:3]
    moved = attack(network, pictures, labels, RADIUS)
    for one, picture, label in zip(moved, pictures, labels.tolist(), strict=True):
        torch.testing.assert_close(one, attack_one(network, picture, label), atol=1e-3, rtol=0)
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_attack_stays_within_its_radius_and_raises_the_loss(world):
    network = load_demo_network()
    pictures, labels = world.images / 255, world.classes

    def loss(shown):
        with torch.no_grad():
            return nn.functional.cross_entropy(network(normalise_pictures(255 * shown)), labels).item()

    moved = attack(network, pictures, labels, RADIUS)
    lengths = (moved - pictures).flatten(1).norm(dim=1)
    assert lengths.max() <= RADIUS + 1e-4 and lengths.min() > 0.5 * RADIUS
    assert moved.min() >= 0 and moved.max() <= 1 and loss(moved) > loss(pictures) + 0.1
    assert attack(network, pictures, labels, 0.0).equal(pictures)


def test_the_radius_goes_along_a_straight_line():
    settings = RobustSettings(seed=0, pictures=4, steps=5, radii=(1.5, 0.3), start="")
    assert [settings.radius(step) for step in range(5)] == pytest.approx([1.5, 1.2, 0.9, 0.6, 0.3])


def test_a_killed_phase_goes_on_and_ends_the_same(world, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_robust, "BATCH", 2)
    monkeypatch.setattr(demo_robust, "CHECKPOINT_STEPS", 2)
    settings = RobustSettings(seed=0, pictures=4, steps=5, radii=(RADIUS, 0.2), start="a network")

    def run(name):
        torch.manual_seed(3)
        return train_robustly(DemoNetwork(), settings, world.images, world.classes, name.with_suffix(".pt"))[0]

    whole, rate, asked = run(tmp_path / "whole"), demo_robust.rate, []

    def kill_at_step_3(step, steps):
        if step == 3:
            raise KeyboardInterrupt
        return rate(step, steps)

    monkeypatch.setattr(demo_robust, "rate", kill_at_step_3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(demo_robust, "rate", lambda step, steps: asked.append(step) or rate(step, steps))
    resumed = run(tmp_path / "killed")
    assert set(asked) == {2, 3, 4} and not resumed.training
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor)
    with pytest.raises(SystemExit, match="other settings"):
        other = RobustSettings(seed=0, pictures=4, steps=5, radii=(RADIUS, 0.2), start="another network")
        train_robustly(DemoNetwork(), other, world.images, world.classes, tmp_path / "killed.pt")
