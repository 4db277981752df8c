"""Accentuation, restated slowly: it starts at the image, goes as far as promised, and shows what changed."""

import pytest
import torch
from map_networks import SwitchedOff
from torch import nn
from zoo import small_convolutional

from spade_cli.cache import Cache
from spade_cli.cli import main
from spade_cli.interpretation import Channel, accentuate, bind_image, is_blank, visualize, visualize_dense
from spade_cli.interpretation.visualization import accentuation, climb
from spade_cli.interpretation.visualization.accentuation import fade_unchanged, find_spectrum
from spade_cli.interpretation.visualization.spectrum import make_pictures

SETTINGS = {"size": 32, "mean": (0, 0, 0), "std": (1, 1, 1)}
GREY = torch.full((1, 3, 32, 32), 0.5)


class Halves(nn.Module):
    """The mean of a picture's left half minus that of its right half."""

    def forward(self, x):
        return (x[..., :16].mean((1, 2, 3)) - x[..., 16:].mean((1, 2, 3)))[:, None]


@pytest.mark.parametrize("size", [8, 9])
def test_it_starts_at_the_image(size):
    image = torch.rand(2, 3, size, size)
    assert torch.allclose(make_pictures(find_spectrum(image), size), image.clamp(0.02, 0.98), atol=1e-5)
    network, view = small_convolutional(), torch.rand(1, 3, 32, 32)
    start = accentuate([network], [Channel(None, 1)], image=view, **SETTINGS, steps=0)
    assert torch.allclose(start, view.clamp(0.02, 0.98), atol=1e-5)


@pytest.mark.parametrize("reach", [0.1, 0.2])
def test_a_pixel_of_average_slope_moves_by_reach(reach, monkeypatch):
    """Of |slope| equal everywhere, each pixel climbs s x - x^2 / (2 reach), whose top is at s reach, s = 1 or -1."""
    monkeypatch.setattr(climb, "draw_views", lambda size, crops, generator: lambda pictures: pictures)
    monkeypatch.setattr(accentuation, "fade_unchanged", lambda pictures, image: pictures)
    (found,) = accentuate([Halves()], [Channel(None, 0)], image=GREY, **SETTINGS, steps=200, crops=1, reach=reach)
    assert found[..., 4:12].mean().item() == pytest.approx(0.5 + reach, abs=0.02)
    assert found[..., 20:28].mean().item() == pytest.approx(0.5 - reach, abs=0.02)


def test_only_what_changed_is_opaque():
    image = torch.rand(1, 3, 64, 64)
    changed = image.clone()
    changed[..., 20:40, 20:40] = 1 - image[..., 20:40, 20:40].round()
    shown = fade_unchanged(changed, image)
    assert torch.allclose(shown[..., 26:34, 26:34], changed[..., 26:34, 26:34], atol=0.25)
    red, green, blue = image[0, :, 5, 50].tolist()
    grey = 0.2989 * red + 0.587 * green + 0.114 * blue
    assert shown[0, :, 5, 50].tolist() == pytest.approx([1 - 0.25 * (1 - grey)] * 3, abs=1e-3)


def test_a_dead_channel_stays_blank_and_another_does_not():
    targets = [Channel("relu", SwitchedOff.DEAD), Channel("relu", SwitchedOff.BRIGHT)]
    settings = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    dead, alive = accentuate([SwitchedOff().eval()], targets, image=GREY, **settings, steps=60)
    assert dead.unique().tolist() == [0.5] and not is_blank(alive)


def test_it_is_given_the_image_and_never_kept(tmp_path):
    view, cache, network = torch.rand(1, 3, 32, 32), Cache(tmp_path), small_convolutional()
    bound = bind_image(accentuate, view)
    assert bind_image(visualize, view) is visualize
    for _ in range(2):
        made = visualize_dense(cache, bound, [network], [Channel(None, 1)], name="small", seed=0, steps=2, **SETTINGS)
        assert not made.cached
    assert cache.entries() == []


def test_studies_of_what_a_neuron_shows_start_from_noise(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in ("metrics=[concepts]", "study=people"):
        assert main(["eval", "count=2", "conditions=[dense]", words, "interpreter.visualization=accentuation"]) == 2
        assert "give interpreter.visualization=spectrum or lucent" in capsys.readouterr().err
