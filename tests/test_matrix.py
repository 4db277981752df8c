"""A fast part of docs/models.md: networks of several families, by every pruner and every method."""

import importlib
import math
import sys
from pathlib import Path

import pytest

from spade_cli.inspection.examine import FAILS, FLAGGED, SKIPPED, WORKS
from spade_cli.interpretation import PAPER_METHODS
from spade_cli.models import ModelSource, load_model

SCRIPTS = Path(__file__).parents[1] / "scripts"
# Verdicts that are known, with words of their reasons; everything else has to work.
NO_RELU = "the network has no ReLU"
KNOWN = {
    ("guided_backprop", FLAGGED): (NO_RELU,),
    ("guided_gradcam", FLAGGED): (NO_RELU,),
    ("integrated_gradients", FLAGGED): ("of what it explains (limit 5%)",),
    ("lrp", FLAGGED): ("can be followed to the picture", "class token's own doing", "output is not positive"),
}


@pytest.fixture(scope="module")
def matrix():
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield importlib.import_module("model_matrix")
    finally:
        sys.path.remove(str(SCRIPTS))


def check(matrix, monkeypatch, library, name, size):
    """What the page says "done" is: no traceback, no NaN, no unexplained cell, every pruner, nothing grey."""
    if library == "timm":
        pytest.importorskip("timm")
    quick = {"integrated_gradients": {"steps": 8}, "gradient_shap": {"samples": 2}, "lime": {"samples": 8}}
    monkeypatch.setattr(matrix, "SETTINGS", quick)
    monkeypatch.setattr(matrix, "SAMPLES", 2)
    classifier = load_model(ModelSource(name, weights="none", library=library, size=size))
    matrix.awaken(classifier)
    found = {
        one["what"]: one
        for one in matrix.examine_network(
            classifier, matrix.choose_picture(library, name, classifier.preprocessing.size)
        )["findings"]
    }
    assert {f"trace by {pruner}" for pruner in matrix.PRUNERS} | set(PAPER_METHODS) < set(found)
    assert len([what for what in found if what.startswith("visualization")]) == 2
    for what, one in found.items():
        assert all(map(math.isfinite, one["checks"].values())), (what, one)
        if one["verdict"] != WORKS:
            reasons = KNOWN.get((what, one["verdict"]), ())
            assert one["why"] and all(any(known in why for known in reasons) for why in one["why"]), (what, one)
    assert not {FAILS, SKIPPED} & {one["verdict"] for one in found.values()}


@pytest.mark.parametrize(
    ("library", "name", "size"),
    [
        ("torchvision", "mobilenet_v3_small", 64),
        ("timm", "xcit_nano_12_p16_224", 32),
        ("timm", "convnextv2_atto", 64),
        ("timm", "mobilevit_xxs", 64),
        ("timm", "coat_lite_tiny", 32),
    ],
)
def test_networks_of_every_family(matrix, monkeypatch, library, name, size):
    check(matrix, monkeypatch, library, name, size)
