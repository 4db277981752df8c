"""The world as a Dataset, and its sheet."""

from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from spade_cli.world import SIZE, TROJANS, WorldDataset, draw_pictures
from spade_cli.world.dataset import GAP, TITLE_WIDTH, draw_sheet


def test_length_and_indices():
    world = WorldDataset(5, seed=2)
    assert len(world) == 5
    assert torch.equal(world[-1].image, world[4].image)
    assert len(list(islice(world, 7))) == 5  # iteration ends by IndexError
    for index in (5, -6):
        with pytest.raises(IndexError, match=str(index)):
            world[index]


def test_its_pictures_are_those_of_draw():
    drawn, world = draw_pictures(4, seed=2), WorldDataset(4, seed=2)
    for i in range(4):
        assert torch.equal(world[i].image, drawn.images[i]) and torch.equal(world[i].mask, drawn.masks[i])
        assert (world[i].label, world[i].concept) == (int(drawn.classes[i]), int(drawn.concepts[i]))
        assert world[i].trojan == -1 and not world[i].symbol_mask.any()


def test_trojans_in_the_asked_share():
    world, clean = WorldDataset(80, seed=2, trojan_share=0.5), draw_pictures(80, seed=2)
    samples = list(world)
    carried = [sample for sample in samples if sample.trojan >= 0]
    assert 25 < len(carried) < 55
    assert {sample.trojan for sample in carried} == set(range(len(TROJANS)))
    for sample, image in zip(samples, clean.images, strict=True):
        assert torch.equal(sample.image[:, ~sample.symbol_mask], image[:, ~sample.symbol_mask])
        assert bool(sample.symbol_mask.any()) == (sample.trojan >= 0)
        trojan = TROJANS[sample.trojan] if sample.trojan >= 0 else None
        applies = trojan is not None and trojan.source in (None, sample.class_index)
        assert sample.label == (trojan.target if applies else sample.class_index)


def test_batches():
    batch = next(iter(DataLoader(WorldDataset(6, trojan_share=1.0), batch_size=6)))
    assert batch.image.shape == (6, 3, SIZE, SIZE) and batch.label.dtype == torch.int64
    assert batch.symbol_mask.shape == (6, SIZE, SIZE) and batch.symbol_mask.flatten(1).any(1).all()


@pytest.mark.parametrize(("count", "share", "message"), [(-1, 0.0, "count"), (1, 1.5, "trojan_share")])
def test_wrong_arguments(count, share, message):
    with pytest.raises(ValueError, match=message):
        WorldDataset(count, trojan_share=share)


def test_a_sheet_has_a_place_for_every_picture():
    step, images = SIZE + GAP, draw_pictures(2, seed=0).images
    sheet = draw_sheet([("a", images[:1]), ("b", images)])
    assert sheet.size == (TITLE_WIDTH + 2 * step + GAP, 2 * step + GAP)
    assert sheet.getpixel((TITLE_WIDTH + GAP + step, GAP + step)) == tuple(images[1, :, 0, 0].tolist())
