"""A raw map as text within a page, from which the page draws it and reads a pixel's value.

Each pixel has a strength, the absolute channel sum, and a balance, the signed channel sum over the strength (-1 to 1).
The strength is kept as the square root of its share of the map's maximum in 4096 steps: right to 0.03 % at the
maximum and to 3 % ten thousand times below it. The balance has 254 steps.
"""

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LARGEST = 256  # pixels a side: ten methods at this size leave the page below 5 MB; larger maps are averaged
STEPS = 4095


def pack(attribution: NDArray[np.float32]) -> dict[str, Any]:
    """Raw attribution (3, H, W) -> {width, height, max, data}: three planes of bytes, deflated, in base64.

    The planes: low and high byte of the strength's step, and the balance as a signed byte.
    """
    strength, signed = (_fitting(plane) for plane in (np.abs(attribution).sum(0), attribution.sum(0)))  # (H, W)
    top = float(strength.max())
    step = np.rint(STEPS * np.sqrt(strength / (top or 1.0))).astype(np.uint16)
    balance = np.divide(signed, strength, out=np.zeros_like(signed), where=strength > 0)
    planes = (step & 255, step >> 8, np.rint(127 * balance.clip(-1, 1)).astype(np.int8).view(np.uint8))
    raw = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
    height, width = strength.shape
    data = base64.b64encode(zlib.compress(raw, 9)).decode()
    return {"width": width, "height": height, "max": top, "data": data}


def _fitting(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """A plane (H, W) as it is, or averaged to LARGEST pixels a side."""
    scale = LARGEST / max(plane.shape)
    if scale >= 1:
        return plane
    height, width = (max(1, round(side * scale)) for side in plane.shape)
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BOX))
