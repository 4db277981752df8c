"""The size of what a network sees: one number for a square, or height and width, in this order."""

from collections.abc import Sequence

Size = int | tuple[int, int]  # pixels


def find_sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels.

    >>> find_sides(64), find_sides((48, 80))
    ((64, 64), (48, 80))
    """
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def make_size(height: int, width: int) -> Size:
    """One number where both sides are equal, so that a square has one way to be written.

    >>> make_size(64, 64), make_size(48, 80)
    (64, (48, 80))
    """
    return height if height == width else (height, width)


def write_size(size: Size) -> str:
    """In words, height first.

    >>> write_size(64), write_size((48, 80))
    ('64 x 64', '48 x 80')
    """
    return " x ".join(map(str, find_sides(size)))


def key_size(size: Size) -> str:
    """As it is typed for `model.size`.

    >>> key_size(64), key_size((48, 80))
    ('64', '[48,80]')
    """
    return str(size) if isinstance(size, int) else f"[{size[0]},{size[1]}]"
