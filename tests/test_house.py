"""The picture of the house in docs/ is drawn from the imports as they are."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

from draw_house import draw  # noqa: E402 (found by the line above)


def test_the_picture_of_the_house_is_true() -> None:
    assert (ROOT / "docs" / "house.svg").read_text(encoding="utf-8") == draw(), "run scripts/draw_house.py"
