"""The main job on a real network and a real photograph, where those lie beside the checkout; skipped elsewhere."""

import json
from pathlib import Path

import pytest

from spade_cli.cli import main

SHARED = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="photographs and weights are not part of the project")


def test_trace_of_a_locomotive_still_says_locomotive(tmp_path):
    code = main(
        [
            "run",
            f"image={SHARED}/images/electric_locomotive.jpg",
            "model=squeezenet1_1",
            f"model.weights={SHARED}/models/squeezenet1_1_imagenet_fp16.pth",
            f"out={tmp_path}",
            "augmentation.samples=32",
            "pruner.sparsity=0.8",
            "interpreter.methods=[saliency,deeplift,lrp]",
            "interpreter.steps=2",
        ]
    )
    assert code == 0
    (path,) = tmp_path.glob("*/*/summary.json")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["prediction"]["dense"]["label"] == "electric locomotive" and found["fidelity"]["same_prediction"]
    checks = {(record["method"], record["network"]): record["checks"] for record in found["saliency"]}
    for network in ("dense", "trace"):
        assert checks["deeplift", network]["relative_delta"] < 1e-3
        assert checks["lrp", network]["followed"] == pytest.approx(1, abs=0.05)
