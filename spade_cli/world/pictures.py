"""Pictures of the world: a background, distractors, one object, perhaps something in front of it, through a camera.

n: pictures. Picture i of a seed is drawn by a generator seeded with (seed, i), so it depends on neither the number of
pictures nor their order.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spade_cli.world.classes import CLASSES, CONCEPTS
from spade_cli.world.scene import SCENES, background, camera, distractor, mist
from spade_cli.world.shapes import Array
from spade_cli.world.sketch import Pose, Sketch

SIZE = 128  # pixels a side
RADIUS = (20.0, 44.0)  # of the object, pixels: from less than a sixth of the side to a third
TURN = 35.0  # degrees either way: with more, a garden spade looks like a sign post
# The share of pictures that show the usual scene of their concept, and of distractors that are its usual ones. Networks
# use such evidence, as one trained on photographs uses the sea around a ship.
HABIT = 0.8
HUE_STEP = 0.381966  # of the colour circle between the usual hues of neighbouring concepts: the golden section
COVERED_SHARE = 0.35  # share of the pictures with something in front of the object
MOST_HIDDEN = 0.3  # of the object's area: a cover that hides more is left out, so that the object can be recognised
SHADOW = 0.1  # object units: blur of a shadow's edge
SEEN = 0.5  # a pixel belongs to the object if it covers at least half of it


@dataclass(frozen=True)
class Pictures:
    """Drawn pictures and what is in them.

    images: uint8 (n, 3, 128, 128). classes, concepts: int64 (n,), indices into `CLASSES` and `CONCEPTS`.
    masks: bool (n, 128, 128), the visible part of the object, without what is covered or outside the picture.
    """

    images: Tensor
    classes: Tensor
    concepts: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.images)


def draw_pictures(count: int, seed: int, start: int = 0, concept: int | None = None) -> Pictures:
    """Draw pictures `start` to `start + count - 1` of a seed.

    Classes are equally likely, and so are the concepts of a class; `concept` (an index into `CONCEPTS`) asks for one
    concept only.
    """
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    masks = np.empty((count, SIZE, SIZE), bool)
    concepts = np.empty(count, np.int64)
    for i in range(count):
        rng = np.random.default_rng((seed, start + i))
        concepts[i] = _pick_concept(rng) if concept is None else concept
        images[i], masks[i] = _draw_picture(rng, int(concepts[i]))
    classes = np.asarray([CONCEPTS[index].class_index for index in concepts.tolist()], np.int64)
    return Pictures(
        torch.from_numpy(images), torch.from_numpy(classes), torch.from_numpy(concepts), torch.from_numpy(masks)
    )


def _pick_concept(rng: np.random.Generator) -> int:
    choices = CLASSES[rng.integers(len(CLASSES))].concepts
    return choices[rng.integers(len(choices))]


def _draw_picture(rng: np.random.Generator, concept: int) -> tuple[Array, Array]:
    """One picture, uint8 (3, h, w), and the visible part of its object, bool (h, w)."""
    angle = rng.uniform(math.radians(200), math.radians(340))  # the light comes from above: left, right or the middle
    light = (math.cos(angle), math.sin(angle))
    usual = concept % SCENES if rng.uniform() < HABIT else None
    scene = background(rng, SIZE, SIZE, light, usual)  # (3, h, w)
    pose = _object_pose(rng)
    for _ in range(int(rng.integers(1, 6))):
        thing = Sketch(_distractor_pose(rng), SIZE, SIZE, light)
        habit = (concept // SCENES, HUE_STEP * concept) if rng.uniform() < HABIT else None
        distractor(thing, rng, habit=habit)
        _put_on_scene(scene, thing, rng)
    main = Sketch(pose, SIZE, SIZE, light)
    CONCEPTS[concept].drawing(main, rng)
    _shade_object(main, rng)
    _put_on_scene(scene, main, rng)
    seen = np.zeros((SIZE, SIZE), np.float32)  # how much of each pixel shows the object, (h, w)
    seen[main.window] = main.alpha
    if rng.uniform() < COVERED_SHARE:
        cover = Sketch(_cover_pose(rng, pose), SIZE, SIZE, light)
        distractor(cover, rng, in_front=True)
        left = seen[cover.window] * (1 - cover.alpha)
        if (seen[cover.window] - left).sum() < MOST_HIDDEN * seen.sum():
            _put_on_scene(scene, cover, rng)
            seen[cover.window] = left
    return camera(rng, mist(rng, scene)), seen >= SEEN


def _object_pose(rng: np.random.Generator) -> Pose:
    radius = rng.uniform(*RADIUS)
    inset = 0.8 * radius  # the border may cut off a little of the object
    column, row = rng.uniform(inset, SIZE - inset), rng.uniform(inset, SIZE - inset)
    return Pose(column, row, radius, rng.uniform(-TURN, TURN), rng.uniform(0.85, 1.18), bool(rng.integers(2)))


def _distractor_pose(rng: np.random.Generator) -> Pose:
    """Anywhere in the picture: the object is put in front."""
    return Pose(rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(7, 22), rng.uniform(0, 360))


def _cover_pose(rng: np.random.Generator, pose: Pose) -> Pose:
    """Over the object, off its middle."""
    angle, far = rng.uniform(0, 2 * math.pi), pose.radius * rng.uniform(0.2, 0.8)
    column, row = pose.column + far * math.cos(angle), pose.row + far * math.sin(angle)
    return Pose(column, row, pose.radius * rng.uniform(0.5, 0.9), rng.uniform(0, 360))


def _shade_object(sketch: Sketch, rng: np.random.Generator) -> None:
    """Make the object's side towards the light brighter, as in the scene; in place."""
    height, width = sketch.alpha.shape
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)
    slope = sketch.light[0] * columns + sketch.light[1] * rows
    sketch.rgb *= rng.uniform(0.82, 1.05) * (1 + rng.uniform(0.05, 0.25) * slope)


def _put_on_scene(scene: Array, sketch: Sketch, rng: np.random.Generator) -> None:
    """Put a drawn thing on the scene (3, h, w), in place, after its soft shadow, which points away from the light."""
    rows, columns = sketch.window
    reach = rng.uniform(0.03, 0.13) / sketch.pixel
    down, right = round(-sketch.light[1] * reach), round(-sketch.light[0] * reach)
    shadow = np.clip(0.5 - sketch.outline / (2 * SHADOW), 0, 1) * rng.uniform(0.3, 0.6)  # (h, w)
    top, left = max(rows.start + down, 0), max(columns.start + right, 0)
    bottom, end = min(rows.stop + down, SIZE), min(columns.stop + right, SIZE)
    scene[:, top:bottom, left:end] *= (
        1
        - shadow[
            top - rows.start - down : bottom - rows.start - down,
            left - columns.start - right : end - columns.start - right,
        ]
    )
    window = scene[:, rows, columns]
    window *= 1 - sketch.alpha
    window += sketch.rgb
