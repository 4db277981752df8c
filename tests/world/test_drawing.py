"""The pictures: the same for a seed whatever the batch, and masks that say where the object is."""

import numpy as np
import pytest
import torch

from spade_cli.world import CLASSES, CONCEPTS, SIZE, Pictures, draw_pictures
from spade_cli.world import pictures as pictures_file
from spade_cli.world.scene import CONTRAST, SCENES, distractor, mist, noise
from spade_cli.world.sketch import Pose, Sketch


def same(one, other):
    return all(
        torch.equal(getattr(one, field), getattr(other, field)) for field in ("images", "classes", "concepts", "masks")
    )


def pick(pictures, indices):
    return Pictures(*(getattr(pictures, one)[indices] for one in ("images", "classes", "concepts", "masks")))


@pytest.fixture(scope="module")
def hundred():
    return draw_pictures(100, seed=3)


def test_every_class_is_a_union_of_two_or_three_concepts():
    assert len(CLASSES) == 12
    assert all(len(info.concepts) in (2, 3) for info in CLASSES)
    assert sorted(i for info in CLASSES for i in info.concepts) == list(range(len(CONCEPTS)))
    assert all(CONCEPTS[i].class_index == k for k, info in enumerate(CLASSES) for i in info.concepts)
    assert len({concept.name for concept in CONCEPTS}) == len(CONCEPTS)


def test_shapes_and_labels(hundred):
    assert hundred.images.shape == (100, 3, SIZE, SIZE) and hundred.images.dtype == torch.uint8
    assert hundred.masks.shape == (100, SIZE, SIZE) and hundred.masks.dtype == torch.bool
    assert hundred.classes.tolist() == [CONCEPTS[i].class_index for i in hundred.concepts.tolist()]
    assert len(hundred) == 100


def test_a_seed_gives_the_same_pictures_again(hundred):
    assert same(draw_pictures(100, seed=3), hundred)


def test_a_picture_depends_on_seed_and_number_only(hundred):
    assert same(draw_pictures(7, seed=3), pick(hundred, slice(0, 7)))
    assert same(draw_pictures(5, seed=3, start=40), pick(hundred, slice(40, 45)))


def test_seeds_and_numbers_differ(hundred):
    assert not torch.equal(draw_pictures(1, seed=4).images, hundred.images[:1])
    assert len({image.numpy().tobytes() for image in hundred.images}) == 100


def test_the_state_of_global_generators_does_not_matter(hundred):
    torch.manual_seed(1)
    np.random.seed(1)
    assert same(draw_pictures(3, seed=3), pick(hundred, [0, 1, 2]))


def test_every_class_and_concept_comes_up():
    drawn = [pictures_file._pick_concept(np.random.default_rng((0, i))) for i in range(6000)]
    counts = np.bincount(drawn, minlength=len(CONCEPTS))
    for info in CLASSES:
        share = counts[list(info.concepts)].sum() / len(drawn)
        assert share == pytest.approx(1 / len(CLASSES), abs=0.015)
        assert counts[list(info.concepts)].min() > 0.7 * share * len(drawn) / len(info.concepts)


@pytest.mark.parametrize("concept", range(len(CONCEPTS)), ids=[concept.name for concept in CONCEPTS])
def test_a_concept_fits_its_disk_and_its_colours_their_range(concept):
    for seed in range(4):
        sketch = Sketch(Pose(64.0, 64.0, 50.0), 128, 128)
        CONCEPTS[concept].drawing(sketch, np.random.default_rng(seed))
        assert sketch.alpha.min() >= 0 and sketch.alpha.max() <= 1 + 1e-5
        assert sketch.rgb.min() >= 0 and (sketch.rgb <= sketch.alpha + 1e-4).all()
        solid = sketch.alpha > 0.5
        assert 0.05 < solid.mean() < 0.75  # neither lost nor a full square
        border = np.concatenate([sketch.alpha[0], sketch.alpha[-1], sketch.alpha[:, 0], sketch.alpha[:, -1]])
        assert border.max() == 0  # nothing is cut off by the canvas


def test_concepts_of_a_class_look_different():
    """Otherwise a class's neuron would have nothing to be polysemantic about: rough drawings must not correlate."""
    drawings = []
    for concept in CONCEPTS:
        sketch = Sketch(Pose(64.0, 64.0, 50.0), 128, 128)
        concept.drawing(sketch, np.random.default_rng(0))
        drawings.append(sketch.rgb - sketch.rgb.mean())
    for info in CLASSES:
        for i in info.concepts:
            for k in info.concepts:
                if i < k:
                    a, b = drawings[i].ravel(), drawings[k].ravel()
                    assert a @ b / np.sqrt((a @ a) * (b @ b)) < 0.75, (CONCEPTS[i].name, CONCEPTS[k].name)


def test_the_mask_covers_the_object(monkeypatch):
    """The same picture drawn with and without its object: they differ where the mask says, and hardly elsewhere."""
    monkeypatch.setattr(pictures_file, "COVERED_SHARE", 0.0)
    with_object = draw_pictures(24, seed=11)
    monkeypatch.setattr(pictures_file, "_shade_object", erase)
    without = draw_pictures(24, seed=11)
    assert torch.equal(with_object.concepts, without.concepts)
    difference = (with_object.images.int() - without.images.int()).abs().amax(1)  # (n, h, w)
    for change, mask in zip(difference, with_object.masks, strict=True):
        assert 0.02 < mask.float().mean() < 0.5
        assert (change[mask] > 6).float().mean() > 0.8  # some of an object has the background's colour
        assert not without.masks.any()
    # beyond the object there are only its soft shadow and its glass, both weaker than what it covers
    outside = torch.stack([c[~m].float().mean() for c, m in zip(difference, with_object.masks, strict=True)])
    inside = torch.stack([c[m].float().mean() for c, m in zip(difference, with_object.masks, strict=True)])
    assert (outside < 0.2 * inside).all()


def erase(sketch, rng):
    """Stands in for the shading, draws the same random number, and leaves the object's canvas empty."""
    rng.uniform(), rng.uniform()
    sketch.rgb[:], sketch.alpha[:], sketch.outline[:] = 0, 0, 1


def test_what_lies_in_front_is_not_in_the_mask(monkeypatch):
    monkeypatch.setattr(pictures_file, "COVERED_SHARE", 1.0)
    covered = draw_pictures(30, seed=5)
    monkeypatch.setattr(pictures_file, "MOST_HIDDEN", 0.0)  # the same pictures, every cover left out
    open_to_view = draw_pictures(30, seed=5)
    assert not (covered.masks & ~open_to_view.masks).any()
    lost = 1 - covered.masks.sum((1, 2)) / open_to_view.masks.sum((1, 2))  # (n,)
    assert (lost > 0.02).sum() > 10
    assert lost.max() < 0.4  # rounding a half-covered pixel may add a little to the 30 percent


def test_objects_come_in_many_sizes_and_places(hundred):
    areas = draw_pictures(20, seed=0, concept=0).masks.float().mean((1, 2))
    assert areas.max() > 2 * areas.min()
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for axis in (rows, columns):
        centres = (hundred.masks * axis).sum((1, 2)) / hundred.masks.sum((1, 2))
        assert centres.min() < 40 and centres.max() > 88


def test_asking_for_one_concept():
    drawn = draw_pictures(5, seed=0, concept=7)
    assert drawn.concepts.tolist() == [7] * 5
    assert drawn.classes.tolist() == [CONCEPTS[7].class_index] * 5


def test_most_pictures_show_the_usual_scene_and_things_of_their_concept(monkeypatch):
    scenes, habits, drawn_background, drawn_thing = [], [], pictures_file.background, pictures_file.distractor

    def background(rng, height, width, light, scene_index=None):
        scenes.append(scene_index)
        return drawn_background(rng, height, width, light, scene_index)

    def thing(sketch, rng, in_front=False, habit=None):
        if not in_front:
            habits.append(habit)
        drawn_thing(sketch, rng, in_front, habit)

    monkeypatch.setattr(pictures_file, "background", background)
    monkeypatch.setattr(pictures_file, "distractor", thing)
    concepts = draw_pictures(150, seed=6).concepts.tolist()
    assert {scene for scene, concept in zip(scenes, concepts, strict=True) if scene != concept % SCENES} == {None}
    for seen in (scenes, habits):
        assert sum(one is not None for one in seen) / len(seen) == pytest.approx(pictures_file.HABIT, abs=0.12)


def test_a_usual_thing_has_its_figure_and_hue():
    def painted(habit, seed):
        sketch = Sketch(Pose(64.0, 64.0, 50.0), 128, 128)
        distractor(sketch, np.random.default_rng(seed), habit=habit)
        return sketch

    for seed in range(5):
        red, green, blue = painted((3, 1 / 3), seed).rgb[:, 64, 64]
        assert green > 1.1 * max(red, blue)
    areas = [[(painted((figure, 0.5), seed).alpha > 0.5).mean() for seed in range(5)] for figure in (0, 1)]
    assert min(areas[0]) > max(areas[1])  # pebbles cover more than sticks


def test_mist_leaves_a_share_of_the_contrast():
    scene = np.random.default_rng(0).uniform(0, 1, (3, 64, 64)).astype(np.float32)
    left = [mist(np.random.default_rng(seed), scene).std((1, 2)) / scene.std((1, 2)) for seed in range(50)]
    assert np.ptp(left, axis=1).max() < 1e-4  # the same in every colour
    assert CONTRAST[0] <= np.min(left) < CONTRAST[0] + 0.05 and CONTRAST[1] - 0.05 < np.max(left) <= CONTRAST[1]


def test_noise_falls_with_frequency_as_asked():
    power = np.zeros((128, 65))
    for seed in range(20):
        field = noise(np.random.default_rng(seed), 128, 128, 10)
        assert abs(field.mean()) < 1e-3 and abs(field.std() - 1) < 1e-3
        power += np.abs(np.fft.rfft2(field)) ** 2
    frequency = np.sqrt(np.fft.fftfreq(128)[:, None] ** 2 + np.fft.rfftfreq(128)[None] ** 2)
    use = (frequency > 0.02) & (frequency < 0.4)
    slope = np.polyfit(np.log(frequency[use]), np.log(power[use]), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.1)
