"""Maps to one value a pixel: how each method's three channels are added up, fixed before anything is measured.

n: maps of any number; H, W: a map's size in pixels.
"""

from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.interpretation import METHODS, SIGNED

AGGREGATIONS = {name: "signed" if name in SIGNED else "absolute" for name in METHODS}
HOW = ("signed", "absolute")
OWN = "absolute"  # of a method of the user's, of which nothing is known


def aggregate(maps: Tensor, how: str) -> Tensor:
    """Raw attribution (..., 3, H, W) -> relevance (..., H, W): the channels' sum, or the sum of their absolute values.

    Raises UserError where `how` is neither "signed" nor "absolute".
    """
    if how not in HOW:
        raise UserError(f"aggregation {how!r} is unknown; there are {' and '.join(HOW)}")
    return (maps if how == "signed" else maps.abs()).sum(-3)
