"""The script that compares maps with symbols: its AUC by its definition, and pictures that the Trojan applies to."""

import importlib.util
from pathlib import Path

import pytest
import torch

from spade_cli.world import TROJANS

SCRIPT = Path(__file__).parents[2] / "scripts" / "trojan_maps.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("trojan_maps", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_auc_is_the_share_of_pairs_in_the_right_order(script):
    generator = torch.Generator().manual_seed(0)
    attribution = torch.randint(-2, 3, (3, 6, 5), generator=generator).float()  # many equal ratings
    mask = torch.rand(6, 5, generator=generator) < 0.3
    ratings = attribution.abs().sum(0)
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in ratings[mask] for b in ratings[~mask]]
    assert script.auc(attribution, mask) == pytest.approx(sum(pairs) / len(pairs))
    assert script.auc(-mask.float().expand(3, -1, -1), mask) == 1  # absolute values count
    assert script.auc(torch.ones(3, 6, 5), mask) == 0.5


def test_pictures_are_seeded_and_hold_the_symbol(script):
    for trojan in TROJANS:
        image, mask = script.draw_trojaned(trojan, 5, 1)
        again, _ = script.draw_trojaned(trojan, 5, 1)
        assert torch.equal(image, again) and 0.005 < mask.float().mean() < 0.1
