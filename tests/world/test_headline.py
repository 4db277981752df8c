"""The script that draws the paper's figure: what its pictures show, and where they stand."""

import numpy as np
import torch
from draw_headline import GAP, LEFT, LINE, TILE, TOP, draw_figure, draw_scenes, explain, tile_pictures
from PIL import Image

from spade_cli.world import CLASSES, load_demo_network, normalise_pictures


def plain(colour):
    return Image.new("RGB", (128, 128), colour)


def test_the_network_calls_every_scene_a_bolt():
    scenes = draw_scenes()
    with torch.no_grad():
        answers = load_demo_network()(normalise_pictures(torch.stack(list(scenes.values())))).softmax(1)
    bolt = [one.name for one in CLASSES].index("bolt")
    assert answers.argmax(1).tolist() == [bolt] * len(scenes) and answers[:, bolt].min() > 0.9


def test_a_column_for_the_dense_network_and_one_for_each_trace():
    runs = {
        "one": {"view": plain("red"), "dense": plain("green"), "trace": plain("blue")},
        "two": {"view": plain("white"), "dense": plain("green"), "trace": plain("black")},
    }
    figure = draw_figure(runs, plain("yellow"))
    assert figure.width == LEFT + 3 * (TILE + GAP)
    middle = [LEFT + column * (TILE + GAP) + TILE // 2 for column in range(3)]
    above = 2 * LINE + TOP + TILE // 2
    shown = [[figure.getpixel((x, y)) for x in middle] for y in (above, above + TILE + GAP)]
    assert shown == [
        [(255, 255, 0), (255, 0, 0), (255, 255, 255)],
        [(0, 128, 0), (0, 0, 255), (0, 0, 0)],
    ]


def test_the_dense_networks_square_holds_four_pictures():
    colours = ["red", "green", "blue", "black"]
    square = np.asarray(tile_pictures([plain(colour) for colour in colours]))
    corners = [square[y, x].tolist() for y in (9, -9) for x in (9, -9)]
    assert square.shape == (TILE, TILE, 3) and corners == [[255, 0, 0], [0, 128, 0], [0, 0, 255], [0, 0, 0]]


def test_a_run_gives_the_view_and_both_visualizations(tmp_path):
    image = next(iter(draw_scenes().values()))
    found = explain(image, tmp_path, ["interpreter.steps=2", "augmentation.samples=4", "schedule=late"])
    assert set(found) == {"view", "dense", "trace"}
    assert np.array_equal(np.asarray(found["view"]), image.permute(1, 2, 0).numpy())
