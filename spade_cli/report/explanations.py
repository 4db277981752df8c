"""The files of one explanation: raw array, map, overlay; and their records for summary.json."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from spade_cli.report.pictures import OWN, Pixels, aggregate, find_tops, find_weaker, heat, overlay, picture
from spade_cli.report.summary import SaliencyRecord, VisualizationRecord


class Explained(Protocol):
    """What a saliency method returned (interpretation's Explanation has these)."""

    map: Tensor  # (3, H, W)
    checks: dict[str, float]
    warnings: tuple[str, ...]
    samples: int
    noise: float
    plain: Tensor | None  # (3, H, W)


def save_array(path: Path, array: Tensor) -> None:
    """Write a .npy file. Where the disk takes no more the error says so, which numpy's own writing into files loses."""
    content = io.BytesIO()
    np.save(content, array.numpy())
    path.write_bytes(content.getbuffer())


def write_saliency(
    folder: Path,
    method: str,
    explained: Mapping[str, tuple[Explained, float]],
    view: Image.Image,
    scale: str = OWN,
) -> tuple[list[SaliencyRecord], dict[str, Image.Image], str]:
    """Write one method's maps: `saliency/<method>_<network>.npy`, `.png`, `_overlay.png`, and a plain `_plain.npy`.

    `explained` maps the network (dense, trace) to its explanation and the seconds it took; `scale` is own or common
    (`report/pictures.py`). Returns their records, the overlays, and a note where one map is much weaker than the other.
    """
    (folder / "saliency").mkdir(exist_ok=True)
    pixels = {network: aggregate(explanation.map) for network, (explanation, _) in explained.items()}
    tops = find_tops(pixels, scale)
    records, overlays = [], {}
    for network, (explanation, seconds) in explained.items():
        stem, top = f"saliency/{method}_{network}", tops[network]
        save_array(folder / f"{stem}.npy", explanation.map)
        if explanation.plain is not None:
            save_array(folder / f"{stem}_plain.npy", explanation.plain)
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
                scale=scale,
                plain=None if explanation.plain is None else f"{stem}_plain.npy",
            )
        )
    return records, overlays, strength_note(pixels)


def strength_note(pixels: Mapping[str, Pixels]) -> str:
    """What own scales do not show: "trace 12 x weaker"; empty where both are about as strong."""
    return ", ".join(f"{network} {times:.3g} x weaker" for network, times in find_weaker(pixels).items())


def write_visualization(
    folder: Path, target: str, name: str, network: str, values: Tensor, seconds: float
) -> tuple[VisualizationRecord, Image.Image]:
    """Write `visualization/<name>_<network>.png` from (3, H, W) in [0, 1]; return its record and the picture."""
    (folder / "visualization").mkdir(exist_ok=True)
    path = f"visualization/{name}_{network}.png"
    image = picture(values)
    image.save(folder / path)
    return VisualizationRecord(target, network, path, seconds), image
