"""Augmentations: shapes, seeds, and what each one does to a picture."""

import pytest
import torch

from spade_cli.images import augment
from spade_cli.models import Preprocessing

IMAGE = (torch.rand(3, 50, 70, generator=torch.Generator().manual_seed(0)) * 255).byte()


def seen(size):
    """A network that crops: what it sees is less than the picture."""
    return Preprocessing(size=size, resize=size + size // 8)


@pytest.mark.parametrize("augmentation", [augment.paper, augment.none, augment.noise])
def test_shape_seed_and_global_random_state(augmentation):
    before = torch.get_rng_state()
    samples = augmentation(IMAGE, 5, seen(32), 7)
    assert samples.shape == (5, 3, 32, 32) and samples.dtype == torch.uint8
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1234)  # whatever the global state, the seed decides
    assert torch.equal(augmentation(IMAGE, 5, seen(32), 7), samples)
    assert torch.equal(augmentation(IMAGE, 3, seen(32), 7), samples[:3]), "more samples only add to the first ones"


def test_paper_draws_every_sample_anew():
    samples = augment.paper(IMAGE, 6, seen(32), 0).flatten(1)
    assert len({tuple(sample.tolist()) for sample in samples}) == 6
    assert not torch.equal(augment.paper(IMAGE, 6, seen(32), 1).flatten(1), samples)


def test_paper_settings_are_used():
    plain = augment.paper(IMAGE, 8, seen(32), 0, scale=(1.0, 1.0), flip=0.0, brightness=0.0, hue=0.0)
    assert plain.float().std(0).max() < 40, "without jitter and flip only the aspect ratio varies"
    half = torch.zeros(3, 40, 40, dtype=torch.uint8)
    half[:, :, :20] = 255
    flipped = augment.paper(half, 64, seen(16), 0, scale=(1.0, 1.0), brightness=0.0, hue=0.0)
    left = (flipped[:, 0, 8, 2] > 128).float().mean()
    assert 0.3 < left < 0.7, "half of the samples are mirrored"
    white = torch.full((3, 40, 40), 255, dtype=torch.uint8)
    erased = augment.paper(white, 16, seen(32), 0, brightness=0.0, hue=0.0, erase=1.0)
    assert (erased == 0).flatten(1).any(1).all()


def test_brightness_and_hue_stay_in_range():
    grey = torch.full((3, 40, 40), 100, dtype=torch.uint8)
    means = augment.paper(grey, 200, seen(8), 0).float().mean((1, 2, 3))
    assert 48 <= means.min() < 60 and 140 < means.max() <= 152  # 100 times 0.5 to 1.5
    red = torch.zeros(3, 40, 40, dtype=torch.uint8)
    red[0] = 255
    colours = augment.paper(red, 200, seen(8), 0, brightness=0.0)[:, :, 4, 4].float() / 255
    assert (colours[:, 0] > 0.15).all() and colours[:, 1].max() > 0.9, (
        "0.3 of the hue circle: red reaches green, not cyan"
    )


def test_noise_has_the_spread_asked_for():
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    assert augment.noise(grey, 4, seen(64), 0, std=0.1).float().std() == pytest.approx(25.5, rel=0.05)
    assert torch.equal(augment.noise(grey, 2, seen(64), 0, std=0.0), augment.none(grey, 2, seen(64), 0))


def test_none_is_what_the_network_sees():
    view = seen(32).view(IMAGE)
    torch.testing.assert_close(
        augment.none(IMAGE, 2, seen(32), 0) / 255, view.expand(2, -1, -1, -1), atol=1 / 255, rtol=0
    )
