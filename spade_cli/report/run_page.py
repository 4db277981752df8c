"""report.html: one run as a page that stands alone, made from the files in the run's folder."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from spade_cli.report import words
from spade_cli.report.charts import layer_table
from spade_cli.report.explanations import strength_note
from spade_cli.report.pack_maps import pack
from spade_cli.report.pictures import aggregate
from spade_cli.report.render import inlined, render
from spade_cli.report.runs import REPORT, read_summary

SHOWN = 448  # pixels a side of a photograph or a visualization: sharp at the size it is shown in, on dense screens


def write_report(folder: Path) -> Path:
    """Write `report.html` from a folder's summary.json, arrays and pictures; returns its path."""
    found = read_summary(folder)
    methods = _methods(folder, found)
    page = render(
        "report.html",
        found=found,
        words=words,
        title=words.question(found),
        photograph=inlined(Image.open(folder / found["image"]["view"]), SHOWN),
        methods=methods,
        maps=[_for_script(method) for method in methods],
        visualizations=_visualizations(folder, found),
        layers=layer_table(SimpleNamespace(**layer) for layer in found["layers"]),
        files=sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
    )
    path = folder / REPORT
    path.write_text(page, encoding="utf-8")
    return path


def _methods(folder: Path, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each saliency method with the maps of both networks, on the scale that they share."""
    methods: dict[str, dict[str, Any]] = {}
    for record in found["saliency"]:
        method = methods.setdefault(
            record["method"],
            {
                "name": record["method"].replace("_", " "),
                "top": record["scale_top"],
                "signed": False,
                "maps": {},
                "pixels": {},
            },
        )
        raw = np.load(folder / record["array"])  # (3, H, W)
        method["maps"][record["network"]] = {"record": record, "packed": pack(raw)}
        method["signed"] |= bool((raw.sum(0) < 0).any())
        method["pixels"][record["network"]] = aggregate(torch.from_numpy(raw))
    for method in methods.values():
        method["note"] = strength_note(method.pop("pixels"))
    return list(methods.values())


def _for_script(method: dict[str, Any]) -> dict[str, Any]:
    return {
        "top": method["top"],
        "signed": method["signed"],
        "maps": {network: one["packed"] for network, one in method["maps"].items()},
    }


def _visualizations(folder: Path, found: dict[str, Any]) -> list[dict[str, Any]]:
    targets: dict[str, dict[str, str]] = {}
    for record in found["visualizations"]:
        picture = inlined(Image.open(folder / record["picture"]), SHOWN)
        targets.setdefault(record["target"], {})[record["network"]] = picture
    explained = found["target"]
    names = {f"{explained['index']}-{explained['label']}": explained["label"]}
    return [{"target": names.get(target, target), "pictures": pictures} for target, pictures in targets.items()]
