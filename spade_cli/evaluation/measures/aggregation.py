"""Maps to one value a pixel: how each method's three channels are added up, fixed before anything is measured.

n: maps of any number; H, W: a map's size in pixels.
"""

from torch import Tensor

from spade_cli.errors import UserError

# A gradient's sign is that of a change of colour: for and against alternate from pixel to pixel and channel to channel,
# and only its size says that a pixel matters. Relevance (LRP) and what covers whole regions (LIME, occlusion) are sums
# of contributions: there a negative value speaks against the class. Decided from this, not from any result.
AGGREGATIONS = {
    "saliency": "absolute",
    "input_x_gradient": "absolute",
    "deeplift": "absolute",
    "lrp": "signed",
    "guided_backprop": "absolute",
    "guided_gradcam": "absolute",
    "lime": "signed",
    "occlusion": "signed",
    "integrated_gradients": "absolute",
    "gradient_shap": "absolute",
}
HOW = ("signed", "absolute")
OWN = "absolute"  # of a method of the user's, of which nothing is known


def aggregate(maps: Tensor, how: str) -> Tensor:
    """Raw attribution (..., 3, H, W) -> relevance (..., H, W): the channels' sum, or the sum of their absolute values.

    Raises UserError where `how` is neither "signed" nor "absolute".
    """
    if how not in HOW:
        raise UserError(f"aggregation {how!r} is unknown; there are {' and '.join(HOW)}")
    return (maps if how == "signed" else maps.abs()).sum(-3)
