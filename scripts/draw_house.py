"""Draw docs/house.svg: the rooms of the package in reading order, and which of them each one imports.

A dot in a room's row stands in the column of a room that it imports. All dots lie left of the diagonal: imports
run one way.
"""

import ast
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spade_cli"
sys.path[:0] = [str(ROOT / "tests")]

from test_layout import ORDER, parts_imported  # noqa: E402 (found by the line above)

ROW, LEFT, TOP, COLUMN = 26, 590, 120, 26  # pixels
SHOWN = 64  # characters of what a room is for


def files_of(room: str) -> list[Path]:
    """The files of a room, which is a folder or a file that stands alone."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]


def purpose(room: str) -> str:
    """The first line of a room's docstring."""
    first = files_of(room)[0] if not (PACKAGE / room).is_dir() else PACKAGE / room / "__init__.py"
    text = (ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))) or "").splitlines()[0]
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1].rstrip()}…"


def draw() -> str:
    """The picture as SVG."""
    width, height = LEFT + COLUMN * len(ORDER) + 20, TOP + ROW * len(ORDER) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, room in enumerate(ORDER):
        x, y = LEFT + COLUMN * number + COLUMN / 2, TOP + ROW * number
        name = f"{room}/" if (PACKAGE / room).is_dir() else f"{room}.py"
        if number % 2 == 0:
            parts.append(f'<rect x="0" y="{y}" width="{width}" height="{ROW}" fill="#f3f5f8"/>')
        parts += [
            f'<text x="12" y="{y + 17}" font-weight="bold" fill="#1b2733">{name}</text>',
            f'<text x="150" y="{y + 17}" fill="#51606f">{escape(purpose(room))}</text>',
            f'<text transform="translate({x + 4} {TOP - 8}) rotate(-60)" fill="#1b2733">{name}</text>',
        ]
    for number, room in enumerate(ORDER):
        y = TOP + ROW * number + ROW / 2
        imported = set().union(*(parts_imported(file) for file in files_of(room))) - {room}
        for other in sorted(imported, key=ORDER.index):
            x = LEFT + COLUMN * ORDER.index(other) + COLUMN / 2
            parts.append(f'<circle cx="{x}" cy="{y}" r="5" fill="#0072b2"/>')
        x = LEFT + COLUMN * number + COLUMN / 2
        parts.append(f'<rect x="{x - 6}" y="{y - 6}" width="12" height="12" fill="none" stroke="#b0bac4"/>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    (ROOT / "docs" / "house.svg").write_text(draw(), encoding="utf-8")
