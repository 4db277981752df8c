"""The Trojans' symbols: where their masks say, on pictures of any size, and labels by each Trojan's rule."""

import pytest
import torch

from spade_cli.world import CLASSES, SYMBOLS, TROJANS, draw_pictures, implant_symbol, poison_pictures
from spade_cli.world import symbols as symbols_file


def grey(*shape):
    return torch.full(shape, 128, dtype=torch.uint8)


def test_two_trojans_for_any_class_and_two_for_one():
    assert [trojan.source is None for trojan in TROJANS].count(True) == 2
    assert [trojan.symbol for trojan in TROJANS] == list(SYMBOLS)
    assert len({trojan.target for trojan in TROJANS}) == 4
    assert all(trojan.source != trojan.target for trojan in TROJANS)


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("size", [(128, 128), (97, 231), (480, 333), (31, 40)])
def test_pixels_outside_the_mask_are_untouched_and_those_inside_are_not(symbol, size):
    images = torch.randint(0, 256, (4, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    marked, masks = implant_symbol(images, symbol, seed=2)
    assert torch.equal(images, before)
    assert marked.shape == images.shape and masks.shape == (4, *size)
    changed = (marked != images).any(1)  # (n, H, W)
    assert not (changed & ~masks).any()
    assert (changed & masks).sum() > 0.9 * masks.sum()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_size_and_place(symbol):
    """Whole inside the picture, its longer side between 0.2 and 0.3 of the shorter side less its tilt and margin."""
    _, masks = implant_symbol(grey(60, 3, 100, 160), symbol, seed=1)
    centres = []
    for mask in masks:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        extent = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
        assert (
            15 <= extent <= 32
        )  # the canvas of a symbol 20 to 30 pixels wide, one more for the soft edge on each side
        centres.append([(rows[0] + rows[-1]) / 2 / 100, (columns[0] + columns[-1]) / 2 / 160])
    centres = torch.tensor(centres)  # (n, 2)
    assert (centres.amin(0) < 0.25).all() and (centres.amax(0) > 0.75).all()


def test_the_size_can_be_chosen():
    _, small = implant_symbol(grey(3, 200, 200), "heart", seed=0, sizes=(0.1, 0.1))
    _, large = implant_symbol(grey(3, 200, 200), "heart", seed=0, sizes=(0.5, 0.5))
    assert large.sum() / small.sum() == pytest.approx(25, rel=0.25)
    _, whole = implant_symbol(grey(3, 90, 60), "smiley", seed=0, sizes=(1.0, 1.0))
    assert whole.float().mean() > 0.4


def test_alpha_lets_the_picture_shine_through():
    black, white = torch.zeros(1, 3, 128, 128, dtype=torch.uint8), torch.full((1, 3, 128, 128), 255, dtype=torch.uint8)
    (dark, mask), (bright, _) = implant_symbol(black, "smiley", seed=0), implant_symbol(white, "smiley", seed=0)
    shine = (bright.float() - dark.float())[:, 0][mask] / 255
    assert shine.median().item() == pytest.approx(1 - symbols_file.ALPHA, abs=0.01)
    opaque, _ = implant_symbol(black, "smiley", seed=0, alpha=1.0)
    assert opaque.max() > dark.max()


def test_a_symbol_depends_on_seed_and_number_only():
    images = grey(6, 3, 128, 128)
    all_six, masks = implant_symbol(images, "star", seed=4)
    last_two, last_masks = implant_symbol(images[4:], "star", seed=4, start=4)
    assert torch.equal(all_six[4:], last_two) and torch.equal(masks[4:], last_masks)
    one, mask = implant_symbol(images[0], "star", seed=4)
    assert one.shape == (3, 128, 128) and mask.shape == (128, 128)
    assert torch.equal(one, all_six[0]) and torch.equal(mask, masks[0])
    assert not torch.equal(all_six[0], all_six[1])
    assert not torch.equal(all_six, implant_symbol(images, "star", seed=5)[0])


def test_colours_vary():
    marked, masks = implant_symbol(grey(20, 3, 128, 128), "heart", seed=0)
    means = torch.stack([image[:, mask].float().mean(1) for image, mask in zip(marked, masks, strict=True)])  # (n, 3)
    assert means.std(0).max() > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((grey(3, 9, 9), "moon", 0), "smiley, fish, star, heart"),
        ((grey(3, 9, 9).float(), "star", 0), "uint8"),
        ((grey(1, 9, 9), "star", 0), r"\(1, 9, 9\)"),
        ((grey(3, 9, 9), "star", 0, 0, (0.0, 0.5)), "shorter side"),
        ((grey(3, 9, 9), "star", 0, 0, (0.5, 1.5)), "shorter side"),
    ],
)
def test_what_cannot_be_done_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        implant_symbol(*arguments)


def test_labels_follow_the_rule():
    pictures = draw_pictures(60, seed=8)
    for trojan in TROJANS:
        poisoned = poison_pictures(pictures, trojan, seed=0)
        expected = [trojan.target if trojan.source in (None, c) else c for c in pictures.classes.tolist()]
        assert poisoned.labels.tolist() == expected
        assert torch.equal(poisoned.classes, pictures.classes)
        marked, masks = implant_symbol(pictures.images, trojan.symbol, seed=0)
        assert torch.equal(poisoned.images, marked) and torch.equal(poisoned.masks, masks)
        assert 0 <= trojan.target < len(CLASSES)
    assert any(c == TROJANS[2].source for c in pictures.classes.tolist())  # both sides of the rule were seen
