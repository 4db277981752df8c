"""Maps to pictures: the documented aggregation, a scale for each map or one for both, an overview that shows both."""

import numpy as np
import pytest
import torch
from networks import photograph
from PIL import Image, ImageDraw

from spade_cli.interpretation import Explanation
from spade_cli.report.explanations import write_saliency
from spade_cli.report.overview import GAP, MARGIN, TILE, WARNING, Pair, overview
from spade_cli.report.pictures import (
    SIGNED,
    STRENGTH,
    aggregate,
    find_tops,
    find_weaker,
    heat,
    overlay,
    palette,
    picture,
    shared_top,
)


def brightness(image):
    return np.asarray(image.convert("L"), dtype=float)


def test_aggregation_is_the_absolute_channel_sum():
    attribution = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]], [[-3.0, 1.0]]])  # (3, 1, 2)
    assert aggregate(attribution).tolist() == [[4.5, 3.0]]


def test_on_its_own_scale_a_weak_map_is_as_bright_and_on_the_common_one_it_is_dark():
    maps = {"weak": np.full((10, 10), 0.001, np.float32), "strong": np.full((10, 10), 1.0, np.float32)}
    common, own = find_tops(maps, "common"), find_tops(maps, "own")
    assert common == pytest.approx({"weak": 1.0, "strong": 1.0}) and own == pytest.approx({"weak": 0.001, "strong": 1})
    dark, bright = (brightness(heat(maps[name], common[name])) for name in ("weak", "strong"))
    assert dark.max() < 5 < 200 < bright.min()
    assert np.array_equal(brightness(heat(maps["weak"], own["weak"])), bright)


def test_the_top_of_a_scale_is_the_stated_percentile():
    ramp = np.arange(1000, dtype=np.float32).reshape(20, 50)
    assert find_tops({"ramp": ramp}, "own")["ramp"] == pytest.approx(np.sort(ramp.ravel())[994:996].mean(), abs=0.5)


def test_weaker_maps_are_those_of_half_the_strength_or_less():
    maps = {name: np.full((4, 4), value, np.float32) for name, value in {"a": 1, "b": 0.6, "c": 0.5, "d": 0}.items()}
    assert find_weaker(maps) == pytest.approx({"c": 2.0}) and find_weaker({"d": maps["d"]}) == {}


def test_single_pixel_and_zero_maps_have_a_scale():
    spot = np.zeros((100, 100), np.float32)
    assert shared_top([spot, spot]) == 1.0
    spot[3, 4] = 2.0  # far less than half a percent of the pixels
    assert shared_top([spot, np.zeros_like(spot)]) == 2.0


def test_overlay_brightens_where_the_map_is_and_shows_the_view_elsewhere():
    pixels = np.zeros((40, 48), np.float32)
    pixels[:20] = 1.0
    photo = photograph()
    found, grey = np.asarray(overlay(pixels, 1.0, photo), float), brightness(photo)
    assert found[:20].mean() > found[20:].mean() + 50
    assert np.corrcoef(found[20:, :, 0].ravel(), grey[20:].ravel())[0, 1] > 0.99
    assert (found[20:].std(2) == 0).all(), "grey where nothing is attributed"


def test_picture_of_floats_and_bytes():
    assert np.asarray(picture(torch.tensor([0.0, 0.5, 2.0])[:, None, None])).tolist() == [[[0, 128, 255]]]
    assert np.asarray(picture(torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None])).tolist() == [[[1, 2, 3]]]


def test_overview_puts_dense_above_trace_in_bands():
    red, blue = (Image.new("RGB", (50, 50), colour) for colour in ("red", "blue"))
    pairs = [Pair(f"method {i}", red, blue if i else None) for i in range(7)]
    sheet = np.asarray(overview(photograph(), "why?", ["a line", "ligne très longue " * 30], ["a flag"], pairs))
    reds, blues = ((sheet == colour).all(2) for colour in ((255, 0, 0), (0, 0, 255)))
    assert reds.sum() == 7 * TILE * TILE and blues.sum() == 6 * TILE * TILE
    columns = [MARGIN + i * (TILE + GAP) for i in range(4)]  # seven pairs: bands of four and three
    first_trace = blues.any(1).nonzero()[0].min()
    assert [bool(blues[first_trace, column]) for column in columns] == [False, True, True, True]
    assert reds.any(1).nonzero()[0].min() == first_trace - TILE - GAP
    assert (sheet == WARNING).all(2).any(), "flags have a colour of their own"


def test_a_bright_spot_has_no_rings_in_the_overview():
    spot = Image.new("RGB", (32, 32), (60, 60, 60))
    spot.putpixel((16, 16), (200, 200, 200))
    sheet = np.asarray(overview(photograph(), "why?", [], [], [Pair("method", spot, None)]))
    tile = sheet[-4 * GAP - 2 * TILE : -4 * GAP - TILE, MARGIN : MARGIN + TILE]
    assert tile.min() == 60 and tile.max() == 200, "no value beyond those of the map"


def test_colours_of_zero_are_dark_and_those_of_both_signs_are_alike_in_brightness():
    signed, strength = (palette(name).astype(float).mean(1) for name in (SIGNED, STRENGTH))
    assert signed[127:129].max() < 20 and strength[0] < 5
    assert (np.diff(strength) > -1).all() and (np.diff(signed[128:]) > -1).all() and (np.diff(signed[:128]) < 1).all()
    assert abs(signed[0] - signed[-1]) < 40


def test_long_titles_of_contrasts_are_broken_and_none_is_cut(monkeypatch):
    """Every word of a title and of the headline is written, each above its own picture; notes stand in one line."""
    written = []
    real = ImageDraw.ImageDraw.text

    def write(self, place, text, fill, font, **settings):
        written.append((place, text, font.getlength(text)))
        return real(self, place, text, fill, font, **settings)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", write)
    asked = "golden retriever and not black-and-tan coonhound, English springer or Brittany spaniel"
    image = photograph((TILE, TILE))
    pairs = [Pair(f"maximizes {asked}", image, image, "a note"), Pair("lrp", image, image, "another")]
    sheet = overview(image, f"why {asked}?", [], [], pairs)
    titles = sorted(one for one in written if one[0][0] == MARGIN and one[1] != "a note")
    assert " ".join(text for _, text, _ in titles) == f"maximizes {asked}" and len(titles) > 2
    assert all(length <= TILE for *_, length in titles)
    headlines = sorted(one for one in written if one[0][0] == 3 * GAP + TILE)
    assert " ".join(text for _, text, _ in headlines) == f"why {asked}?"
    assert all(place[0] + length <= sheet.width for place, _, length in headlines)
    tops = {text: place[1] for place, text, _ in written}
    assert titles[-1][0][1] == tops["lrp"] and tops["a note"] == tops["another"] == tops["lrp"] + 23


def test_overview_of_nothing_is_still_a_picture():
    assert overview(photograph(), "why?", [], [], []).width > TILE


def test_much_weaker_map_is_told(tmp_path):
    strong = Explanation(torch.ones(3, 4, 4), {}, ())
    weak = Explanation(torch.full((3, 4, 4), 0.01), {}, ())
    notes = [
        write_saliency(tmp_path, "saliency", {"dense": (strong, 0.0), "trace": (trace, 0.0)}, photograph())[2]
        for trace in (weak, strong)
    ]
    assert notes == ["trace 100 x weaker", ""]
