"""report.html: one run as a page that stands alone, made from the files in the run's folder.

The page holds each raw map as text, from which it draws the map and reads a pixel's value. Each pixel has a strength,
the absolute channel sum, and a balance, the signed channel sum over the strength (-1 to 1). The strength is kept as the
square root of its share of the map's maximum in 4096 steps: right to 0.03 % at the maximum and to 3 % ten thousand
times below it. The balance has 254 steps.
"""

import base64
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from spade_cli.report import sentences
from spade_cli.report.charts import layer_table
from spade_cli.report.explanations import strength_note
from spade_cli.report.pictures import COMMON, OWN, Pixels, aggregate, find_tops
from spade_cli.report.render import inline_picture, render
from spade_cli.report.runs import REPORT
from spade_cli.report.summary import VIEW, SaliencyRecord, Summary, read_summary

SHOWN = 448  # pixels a side of a view or a visualization: sharp at the size it is shown in, on dense screens
LARGEST = 256  # pixels a side of a map: ten methods at this size leave the page below 5 MB; larger maps are averaged
STEPS = 4095


@dataclass
class Map:
    """One network's map on the page."""

    record: SaliencyRecord
    packed: dict[str, Any]  # what `pack` makes of it
    top: float = 1.0  # of its own scale
    plain: dict[str, Any] | None = None  # the same of the map without noise, with its top


@dataclass
class Method:
    """One saliency method with the maps of both networks."""

    name: str
    top: float = 1.0  # of the scale that they can share
    signed: bool = False  # whether a map says where evidence speaks against the answer
    maps: dict[str, Map] = field(default_factory=dict)  # by network
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """What the page's script draws from."""
        packed = {network: {**one.packed, "top": one.top, "plain": one.plain} for network, one in self.maps.items()}
        return {"top": self.top, "signed": self.signed, "maps": packed}

    @property
    def has_plain(self) -> bool:
        """Whether there are maps without noise."""
        return any(one.plain is not None for one in self.maps.values())


def write_report(folder: Path) -> Path:
    """Write `report.html` from a folder's summary.json, arrays and pictures; returns its path."""
    summary = read_summary(folder)
    methods = _read_methods(folder, summary)
    view = Image.open(folder / (summary.image.view or VIEW))
    page = render(
        "report.html",
        summary=summary,
        sentences=sentences,
        title=sentences.ask_why(summary),
        view=inline_picture(view, SHOWN),
        shape=f"{view.width} / {view.height}",
        methods=methods,
        maps=[method.to_json() for method in methods],
        visualizations=_read_visualizations(folder, summary),
        layers=layer_table(summary.layers),
        files=sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
    )
    path = folder / REPORT
    path.write_text(page, encoding="utf-8")
    return path


def _read_methods(folder: Path, summary: Summary) -> list[Method]:
    methods: dict[str, Method] = {}
    pixels: dict[str, dict[str, Pixels]] = {}
    for record in summary.saliency:
        method = methods.setdefault(record.method, Method(record.method.replace("_", " ")))
        raw = np.load(folder / record.array)  # (3, H, W)
        method.maps[record.network] = Map(record, pack(raw))
        method.signed |= bool((raw.sum(0) < 0).any())
        pixels.setdefault(record.method, {})[record.network] = aggregate(torch.from_numpy(raw))
        if record.plain is not None:
            method.maps[record.network].plain = _read_plain(folder / record.plain)
    for name, method in methods.items():
        method.note = strength_note(pixels[name])
        method.top = max(find_tops(pixels[name], COMMON).values())
        for network, top in find_tops(pixels[name], OWN).items():
            method.maps[network].top = top
    return list(methods.values())


def _read_plain(path: Path) -> dict[str, Any]:
    """A map without noise as the page draws it, on its own scale."""
    raw = np.load(path)  # (3, H, W)
    (top,) = find_tops({"": aggregate(torch.from_numpy(raw))}, OWN).values()
    return {**pack(raw), "top": top}


def _read_visualizations(folder: Path, summary: Summary) -> list[dict[str, Any]]:
    """Each class or channel by its name, with the pictures of both networks as data URIs."""
    targets: dict[str, dict[str, str]] = {}
    for record in summary.visualizations:
        picture = inline_picture(Image.open(folder / record.picture), SHOWN)
        targets.setdefault(record.target, {})[record.network] = picture
    names = {f"{summary.target.index}-{summary.target.label}": summary.target.label}
    return [{"target": names.get(target, target), "pictures": pictures} for target, pictures in targets.items()]


def pack(map: NDArray[np.float32]) -> dict[str, Any]:
    """Map (3, H, W) -> {width, height, max, data}: three planes of bytes, deflated, in base64.

    The planes: low and high byte of the strength's step, and the balance as a signed byte.
    """
    strength, signed = (_average(plane) for plane in (np.abs(map).sum(0), map.sum(0)))  # (H, W)
    top = float(strength.max())
    step = np.rint(STEPS * np.sqrt(strength / (top or 1.0))).astype(np.uint16)
    balance = np.divide(signed, strength, out=np.zeros_like(signed), where=strength > 0)
    planes = (step & 255, step >> 8, np.rint(127 * balance.clip(-1, 1)).astype(np.int8).view(np.uint8))
    raw = b"".join(plane.astype(np.uint8).tobytes() for plane in planes)
    height, width = strength.shape
    data = base64.b64encode(zlib.compress(raw, 9)).decode()
    return {"width": width, "height": height, "max": top, "data": data}


def _average(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """A plane (H, W) as it is, or averaged to LARGEST pixels a side."""
    scale = LARGEST / max(plane.shape)
    if scale >= 1:
        return plane
    height, width = (max(1, round(side * scale)) for side in plane.shape)
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BOX))
