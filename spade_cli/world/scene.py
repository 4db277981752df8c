"""The scene around an object: a background with the statistics of photographs, plain things, mist, and the camera.

h, w: the picture in pixels. A scene is float32 (3, h, w), about [0, 1] until the camera clips it.
"""

import functools
import math
from collections.abc import Callable

import numpy as np

from spade_cli.world.shapes import Array, box, disk, ellipse, stroke, turn
from spade_cli.world.sketch import Colour, Sketch, tint


@functools.lru_cache(maxsize=16)
def _amplitudes(height: int, width: int, tenths: int) -> Array:
    """Amplitude (h, w // 2 + 1) falling with frequency to the power `tenths` / 10; no constant part."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.sqrt(down**2 + across**2)
    frequency[0, 0] = np.inf
    return (frequency ** (-tenths / 10)).astype(np.float32)


def noise(rng: np.random.Generator, height: int, width: int, tenths: int = 11) -> Array:
    """Random field (h, w), mean 0 and standard deviation 1, amplitude 1 / frequency^(tenths / 10).

    Photographs lie near 10; more is smoother. It wraps around at the borders.
    """
    amplitude = _amplitudes(height, width, tenths)  # (h, w // 2 + 1)
    parts = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    field = np.fft.irfft2((parts[0] + 1j * parts[1]) * amplitude, s=(height, width)).astype(np.float32)
    return field / (field.std() + np.float32(1e-6))


def mix(first: Colour, second: Colour, share: Array) -> Array:
    """The colours between `first` (share 0) and `second` (share 1), (3, h, w)."""
    a, b = np.asarray(first, np.float32)[:, None, None], np.asarray(second, np.float32)[:, None, None]
    return a + (b - a) * share


# The share of a scene's contrast that mist leaves. A network has to amplify what is faint, but not a symbol, which lies
# on top: so its gradients are not only where its evidence is.
CONTRAST = (0.25, 0.6)

Grid = tuple[Array, Array]  # x, y (h, w) in [-1, 1], y down


def _landscape(rng: np.random.Generator, grid: Grid, field: Array) -> Array:
    """Sky over hills; the field makes both the clouds and the grass."""
    x, y = grid
    hour = rng.choice(3)
    zenith = (tint(rng.uniform(0.55, 0.6), 0.55, 0.85), tint(0.6, 0.2, 0.75), tint(0.62, 0.4, 0.6))[hour]
    low = (tint(0.55, 0.15, 0.98), tint(0.1, 0.06, 0.9), tint(rng.uniform(0.04, 0.1), 0.5, 0.95))[hour]
    horizon = rng.uniform(-0.3, 0.4) + 0.1 * np.sin(x * rng.uniform(1.5, 4) + rng.uniform(0, 6.28))
    sky = mix(zenith, low, np.clip(0.6 + 0.6 * y, 0, 1)) + 0.35 * np.clip(field - 0.5, 0, 0.8)
    hue = rng.choice([rng.uniform(0.2, 0.34), rng.uniform(0.08, 0.12)])
    ground = mix(tint(hue, 0.5, 0.55), tint(hue + 0.03, 0.55, 0.3), np.clip(0.5 * (y - horizon) + 0.25 * field, 0, 1))
    return sky + (ground - sky) * np.clip((y - horizon) * 40, 0, 1)


def _table(rng: np.random.Generator, grid: Grid, field: Array) -> Array:
    """A wooden table in front of a plain wall."""
    x, y = grid
    wall_hue = rng.uniform()
    near, far = tint(wall_hue, rng.uniform(0.05, 0.3), rng.uniform(0.6, 0.95)), tint(wall_hue, 0.2, 0.45)
    wall = mix(near, far, np.clip(0.4 + 0.3 * x, 0, 1))
    edge = rng.uniform(-0.7, 0.25)
    lines = y * rng.uniform(9, 16) + 0.6 * field  # planks run across; the field bends their grain
    grain = 0.5 * np.sin(3 * lines) + 0.3 * np.sin(7.3 * lines + 1) + 0.2 * np.sin(17.1 * lines)
    hue, value = rng.uniform(0.05, 0.1), rng.uniform(0.5, 0.9)
    wood = mix(tint(hue, 0.45, value), tint(hue - 0.01, 0.6, 0.72 * value), np.clip(0.5 + 0.45 * grain, 0, 1))
    rim = np.clip((y - edge) * 50, 0, 1) * (1 - 0.35 * np.exp(-(((y - edge) * 14) ** 2)))  # the rim is darker
    return (wall + 0.02 * field) * (1 - np.clip((y - edge) * 50, 0, 1)) + wood * rim


def _leaves(rng: np.random.Generator, grid: Grid, field: Array) -> Array:
    """Blotches that cover one another, like fallen leaves or pebbles: contours of the field cut into layers."""
    hue, spread = rng.choice([0.28, 0.08, 0.6, 0.33]), rng.uniform(0.02, 0.06)
    layers = np.floor(3 * field)
    ramp = 3 * field - layers  # within one layer: dark at its foot, lit at its crest, (h, w)
    picture = mix(tint(hue, 0.55, 0.32), tint(hue + spread, 0.45, 0.8), np.clip(0.5 + 0.12 * layers, 0, 1))
    return picture * (0.75 + 0.4 * ramp)


def _lights(rng: np.random.Generator, grid: Grid, field: Array) -> Array:
    """A street out of focus: soft disks of light over a dim gradient."""
    x, y = grid
    hue = rng.uniform()
    picture = mix(
        tint(hue, 0.4, rng.uniform(0.2, 0.6)),
        tint(hue + 0.15, 0.4, rng.uniform(0.1, 0.5)),
        np.clip(0.5 + 0.5 * y, 0, 1),
    )
    warm = rng.uniform(0.05, 0.15)
    for _ in range(14):
        radius = rng.uniform(0.08, 0.26)
        distance = np.sqrt((x - rng.uniform(-1, 1)) ** 2 + (y - rng.uniform(-1, 1)) ** 2) - radius
        glow = np.asarray(tint(warm + rng.choice([0, 0, 0.4, 0.85]), 0.5, 1.0), np.float32)[:, None, None]
        picture += glow * (np.clip(0.5 - distance * 12, 0, 1) * rng.uniform(0.08, 0.28))
    return picture + 0.02 * field


def _cloth(rng: np.random.Generator, grid: Grid, field: Array) -> Array:
    """Woven cloth with faint broad stripes, a little crumpled."""
    x, y = turn(*grid, rng.uniform(0, 90))
    hue, value = rng.uniform(), rng.uniform(0.35, 0.85)
    fold = 0.05 * field
    broad = np.sin(rng.uniform(4, 9) * x + fold) * rng.uniform(0.0, 0.5) + np.sin(
        rng.uniform(4, 9) * y + fold
    ) * rng.uniform(0.0, 0.5)
    threads = np.sin(70 * x) * np.sin(70 * y)
    cloth = mix(
        tint(hue, rng.uniform(0.15, 0.6), value), tint(hue + 0.06, 0.4, 0.75 * value), np.clip(0.5 + 0.3 * broad, 0, 1)
    )
    return cloth * (1 + 0.05 * threads + 0.08 * field)


def _bricks(rng: np.random.Generator, grid: Grid, field: Array) -> Array:
    """A wall of bricks or tiles, each of another tone."""
    x, y = turn(*grid, rng.uniform(-6, 6))
    height = rng.uniform(0.16, 0.32)
    width = height * rng.uniform(1.6, 2.4)
    row = np.floor(y / height)
    shifted = x / width + 0.5 * np.mod(row, 2)
    brick = np.floor(shifted)
    edge = (
        np.minimum(0.5 - np.abs(y / height - row - 0.5), (0.5 - np.abs(shifted - brick - 0.5)) * (width / height))
        * height
    )
    shade = np.sin(brick * 12.9 + row * 78.2) * 0.5  # a different tone for every brick, (h, w)
    hue, value = rng.choice([0.02, 0.05, 0.1, 0.58]), rng.uniform(0.4, 0.75)
    stone = mix(
        tint(hue, rng.uniform(0.2, 0.6), value),
        tint(hue + 0.02, 0.45, 0.8 * value),
        np.clip(0.5 + shade + 0.2 * field, 0, 1),
    )
    mortar = np.asarray(tint(0.1, 0.08, rng.uniform(0.45, 0.75)), np.float32)[:, None, None]
    return mortar + (stone - mortar) * np.clip((edge - 0.012) * 60, 0, 1)


# Every scene with the range of its field's smoothness (tenths): clouds and walls are smooth, cloth and brick are rough.
_SCENES: tuple[tuple[Callable[[np.random.Generator, Grid, Array], Array], int, int], ...] = (
    (_landscape, 15, 18),
    (_table, 15, 18),
    (_leaves, 14, 18),
    (_lights, 15, 18),
    (_cloth, 11, 15),
    (_bricks, 10, 14),
)


@functools.lru_cache(maxsize=4)
def _grid(height: int, width: int) -> Grid:
    scale = 2 / max(height, width)
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) * scale
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * scale
    columns, rows = np.meshgrid(x, y)
    return columns, rows


SCENES = len(_SCENES)


def background(
    rng: np.random.Generator, height: int, width: int, light: tuple[float, float], scene_index: int | None = None
) -> Array:
    """One of six scenes under one light, float32 (3, h, w); `light` points from the picture towards the light.

    scene_index: which scene; a random one if None.
    """
    grid = _grid(height, width)
    chosen = int(rng.integers(SCENES))
    scene, roughest, smoothest = _SCENES[chosen if scene_index is None else scene_index]
    field = noise(rng, height, width, int(rng.integers(roughest, smoothest)))
    picture = scene(rng, grid, field)
    # the same field, turned round, serves as a second one: a tint that varies slowly over the surface
    second = field[::-1, ::-1]
    cast = np.asarray([rng.uniform(-0.02, 0.02) for _ in range(3)], np.float32)[:, None, None]
    picture = picture + second * (cast + rng.uniform(0.01, 0.05))
    slope = light[0] * grid[0] + light[1] * grid[1]
    return picture * (1 + rng.uniform(0.08, 0.3) * slope)


# Things that belong to no concept: they lie around the object, or on it.


def _pebble(x: Array, y: Array, rng: np.random.Generator) -> Array:
    angle = np.arctan2(y, x)
    return ellipse(x, y, 0.9, rng.uniform(0.55, 0.8)) + 0.05 * np.sin(3 * angle + rng.uniform(0, 6.28))


def _stick(x: Array, y: Array, rng: np.random.Generator) -> Array:
    return stroke(x, y, (-0.95, 0.0), (0.95, 0.0), rng.uniform(0.1, 0.18))


def _leaf(x: Array, y: Array, rng: np.random.Generator) -> Array:
    offset = rng.uniform(0.6, 1.0)  # two circles through the leaf's tips at (-1, 0) and (1, 0)
    radius = (1 + offset * offset) ** 0.5
    return np.maximum(disk(x, y - offset, radius), disk(x, y + offset, radius))


def _block(x: Array, y: Array, rng: np.random.Generator) -> Array:
    return box(x, y, rng.uniform(0.5, 0.9), rng.uniform(0.35, 0.7), 0.1)


_FIGURES = (_pebble, _stick, _leaf, _block)
_COVERS = (_leaf, _stick)  # may lie in front of the object: narrow enough to leave most of it visible


def distractor(
    sketch: Sketch, rng: np.random.Generator, in_front: bool = False, habit: tuple[int, float] | None = None
) -> None:
    """Draw one plain thing; `in_front`: one that may cover a part of the object.

    habit: which figure, and its hue; None: any figure in any colour, from dull to bright.
    """
    figures = _COVERS if in_front else _FIGURES
    figure, hue, saturation = int(rng.integers(len(figures))), rng.uniform(), rng.uniform(0.05, 0.7)
    if habit is not None:
        figure, hue, saturation = habit[0] % len(figures), habit[1] + 0.08 * (hue - 0.5), 0.4 + 0.6 * saturation
    distance = figures[figure](sketch.x, sketch.y, rng)
    colour = tint(hue, saturation, rng.uniform(0.25, 0.85))
    sketch.paint(distance, colour, bevel=rng.uniform(0.1, 0.5))


def mist(rng: np.random.Generator, picture: Array) -> Array:
    """The scene (3, h, w) through mist, more or less dense: contrast shrinks towards one pale colour."""
    left = rng.uniform(*CONTRAST)
    pale = (
        0.5 * picture.mean((1, 2), keepdims=True)
        + 0.5 * np.asarray(tint(rng.uniform(), 0.12, 0.8), np.float32)[:, None, None]
    )
    return pale + left * (picture - pale)


def camera(rng: np.random.Generator, picture: Array) -> Array:
    """A photograph of a scene (3, h, w), with exposure, vignette, white balance and grain: uint8 (3, h, w)."""
    height, width = picture.shape[1:]
    x, y = _grid(height, width)
    vignette = 1 - rng.uniform(0.0, 0.22) * (x * x + y * y)
    balance = np.asarray([math.exp(rng.normal(0, 0.03)) for _ in range(3)], np.float32)[:, None, None]
    grain = rng.standard_normal((height, width), dtype=np.float32) * rng.uniform(0.004, 0.025)
    seen = picture * (balance * rng.uniform(0.92, 1.2)) * vignette + grain
    return (np.clip(seen, 0, 1) * 255 + 0.5).astype(np.uint8)
