"""The files of one explanation: raw array, map, overlay; and their records for summary.json."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from spade_cli.report.pictures import Pixels, aggregate, heat, overlay, picture, shared_top
from spade_cli.report.summary import SaliencyRecord, VisualizationRecord

NOTED = 2.0  # how many times weaker a map is told to be: the eye takes less than that for the same


class Explained(Protocol):
    """What a saliency method returned (interpretation's Explanation has these)."""

    map: Tensor  # (3, H, W)
    checks: dict[str, float]
    warnings: tuple[str, ...]
    samples: int
    noise: float


def write_saliency(
    folder: Path, method: str, explained: Mapping[str, tuple[Explained, float]], view: Image.Image
) -> tuple[list[SaliencyRecord], dict[str, Image.Image], str]:
    """Write one method's maps on one scale: `saliency/<method>_<network>.npy`, `.png` and `_overlay.png`.

    `explained` maps the network (dense, trace) to its explanation and the seconds it took. Returns their
    records, the overlays, and a note where one map is much weaker than the other.
    """
    (folder / "saliency").mkdir(exist_ok=True)
    pixels = {network: aggregate(explanation.map) for network, (explanation, _) in explained.items()}
    top = shared_top(list(pixels.values()))
    records, overlays = [], {}
    for network, (explanation, seconds) in explained.items():
        stem = f"saliency/{method}_{network}"
        np.save(folder / f"{stem}.npy", explanation.map.numpy())
        heat(pixels[network], top).save(folder / f"{stem}.png")
        overlays[network] = overlay(pixels[network], top, view)
        overlays[network].save(folder / f"{stem}_overlay.png")
        checks = {name: value if math.isfinite(value) else None for name, value in explanation.checks.items()}
        records.append(
            SaliencyRecord(
                method=method,
                network=network,
                array=f"{stem}.npy",
                picture=f"{stem}.png",
                overlay=f"{stem}_overlay.png",
                aggregation="absolute channel sum",
                scale_top=top,
                checks=checks,
                warnings=tuple(explanation.warnings),
                seconds=seconds,
                samples=explanation.samples,
                noise=explanation.noise,
            )
        )
    return records, overlays, strength_note(pixels)


def strength_note(pixels: Mapping[str, Pixels]) -> str:
    """Why a map looks dark on the shared scale: "trace 12 x weaker"; empty where both are about as strong."""
    tops = {network: shared_top([one]) if one.any() else 0.0 for network, one in pixels.items()}
    if len(tops) < 2 or not all(tops.values()):
        return ""
    weak, strong = min(tops, key=lambda network: tops[network]), max(tops, key=lambda network: tops[network])
    ratio = tops[strong] / tops[weak]
    return f"{weak} {ratio:.3g} x weaker" if ratio >= NOTED else ""


def write_visualization(
    folder: Path, target: str, name: str, network: str, values: Tensor, seconds: float
) -> tuple[VisualizationRecord, Image.Image]:
    """Write `visualization/<name>_<network>.png` from (3, H, W) in [0, 1]; return its record and the picture."""
    (folder / "visualization").mkdir(exist_ok=True)
    path = f"visualization/{name}_{network}.png"
    image = picture(values)
    image.save(folder / path)
    return VisualizationRecord(target, network, path, seconds), image
