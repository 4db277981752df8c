"""index.html: every run of a batch or a sweep in one gallery, from its index.jsonl and the runs' folders.

A row of index.jsonl is an object with any of the keys in KNOWN; what else it holds (a sweep's settings) is shown and
can be sorted by. Thumbnails are files beside the page, made once for each run.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from PIL import Image

from spade_cli.errors import UserError
from spade_cli.files import write_whole
from spade_cli.report.overview import shape_tile
from spade_cli.report.render import percent, render
from spade_cli.report.runs import GALLERY, OVERVIEW, REPORT
from spade_cli.report.summary import SUMMARY, read_summary

INDEX, THUMBNAILS = "index.jsonl", "thumbnails"
SIDE = 128  # pixels of the square that each of a thumbnail's three pictures gets: sharp in a third of a phone's width
QUALITY = 75  # of WebP: 8 kB a run, 40 MB for five thousand
KNOWN = (
    *("image", "folder", "status", "reason", "target", "prediction", "same_prediction", "agreement", "kl", "sparsity"),
    *("flags", "seconds"),
)


def write_gallery(folder: Path) -> Path:
    """Write `index.html`, whole, into a batch's folder, and the thumbnails that are not there yet; returns the page.

    A line that cannot be read, as the last one of an interrupted batch, is left out and counted on the page.
    """
    rows, unreadable = _read_rows(folder / INDEX)
    shown = [_make_row(folder, row) for row in rows]
    extra = sorted({key for row in rows for key in row if key not in KNOWN})
    page = render(
        "gallery.html",
        title=folder.resolve().name,
        rows=shown,
        figures=_list_figures(shown, unreadable),
        classes=sorted({row["target"] for row in shown if row["target"]}),
        extra=extra,
    )
    write_whole(folder / GALLERY, lambda path: path.write_text(page, encoding="utf-8"))
    return folder / GALLERY


def _read_rows(index: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows, the last one of each image and folder, and how many lines could not be read."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    unreadable = 0
    lines = index.read_text(encoding="utf-8", errors="replace").splitlines() if index.is_file() else []
    for line in filter(str.strip, lines):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows[str(row.get("image")), str(row.get("folder"))] = row  # a row that came again is the newer one
        else:
            unreadable += 1
    return list(rows.values()), unreadable


def _make_row(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the page's script takes it: plain values, None where nothing is known."""
    run = folder / str(row["folder"]) if row.get("folder") else None
    dense, trace = (_read_answer(row.get("prediction"), name) for name in ("dense", "trace"))
    flags = row.get("flags") or []
    return {
        "image": Path(str(row.get("image") or "?").replace("\\", "/")).name,
        "link": _find_link(folder, run),
        "thumbnail": _write_thumbnail(folder, run),
        "status": str(row.get("status") or "done"),
        "reason": row.get("reason"),
        "target": _name_class(row.get("target")),
        "dense": dense,
        "trace": trace,
        "dense probability": dense["probability"],
        "trace probability": trace["probability"],
        "same": row.get("same_prediction"),
        "flagged": flags if isinstance(flags, list) else [str(flags)],
        "flags": len(flags) if isinstance(flags, list) else 1,
        **{key: row.get(key) for key in ("agreement", "kl", "sparsity", "seconds")},
        "extra": {
            key: value if value is None or isinstance(value, int | float | str) else str(value)
            for key, value in row.items()
            if key not in KNOWN
        },
    }


def _read_answer(prediction: Any, network: str) -> dict[str, Any]:
    answer = prediction.get(network) if isinstance(prediction, dict) else None
    answer = answer if isinstance(answer, dict) else {}
    return {"label": _name_class(answer.get("label")), "probability": answer.get("probability")}


def _name_class(value: Any) -> str:
    """A class as a name; an entry of summary.json has it under `label`."""
    if isinstance(value, dict):
        value = value.get("label", value.get("index"))
    return "" if value is None else str(value)


def _find_link(folder: Path, run: Path | None) -> str | None:
    """Where a click leads: the run's report, or what an older run has of it."""
    for name in (REPORT, OVERVIEW, SUMMARY):
        if run is not None and (run / name).is_file():
            return _address(folder, run / name)
    return None


def _address(folder: Path, path: Path) -> str:
    """A file within the folder as a relative address; a file elsewhere as an absolute one."""
    try:
        return quote(path.relative_to(folder).as_posix())
    except ValueError:
        return path.resolve().as_uri()


def _write_thumbnail(folder: Path, run: Path | None) -> str | None:
    """Image, dense overlay and trace overlay of a run side by side; None where it has no pictures."""
    if run is None or not run.is_dir():
        return None
    name = hashlib.sha256(os.path.relpath(run, folder).encode()).hexdigest()[:16]  # the same where the batch is moved
    path = folder / THUMBNAILS / f"{name}.webp"
    if not path.is_file():
        pictures = [picture for picture in _list_pictures(run) if picture.is_file()]
        if not pictures:
            return None
        path.parent.mkdir(exist_ok=True)
        strip = Image.new("RGBA", (SIDE * len(pictures), SIDE))  # clear beside a picture that is no square
        for place, picture in enumerate(pictures):
            with Image.open(picture) as opened:
                tile = opened.convert("RGB").resize(shape_tile(opened.size, SIDE), Image.Resampling.BILINEAR)
            strip.paste(tile, (place * SIDE + (SIDE - tile.width) // 2, (SIDE - tile.height) // 2))
        write_whole(path, lambda partial: strip.save(partial, "WEBP", quality=QUALITY))
    return _address(folder, path)


def _list_pictures(run: Path) -> Iterator[Path]:
    """What shows a run best: its image, then the first method's overlays or the first visualization."""
    try:
        summary = read_summary(run)
    except UserError:
        return
    if summary.image.view is not None:
        yield run / summary.image.view
    if summary.saliency:
        yield from (run / one.overlay for one in summary.saliency[:2] if one.method == summary.saliency[0].method)
    else:
        shown = summary.visualizations
        yield from (run / one.picture for one in shown[:2] if one.target == shown[0].target)


def _list_figures(rows: list[dict[str, Any]], unreadable: int) -> list[tuple[str, str]]:
    """Key figures of the whole: name, figure."""
    done = [row for row in rows if row["status"] == "done"]
    agreements = [row["agreement"] for row in done if row["agreement"] is not None]
    same = [row["same"] for row in done if row["same"] is not None]
    figures = [("images", f"{len(done):,}")]
    if same:
        figures.append(("same prediction", percent(sum(same) / len(same))))
    if agreements:
        figures.append(("median agreement", percent(median(agreements))))
    figures.append(("flagged", f"{sum(row['flags'] > 0 for row in done):,}"))
    if len(done) < len(rows):
        figures.append(("failed", f"{len(rows) - len(done):,}"))
    if unreadable:
        figures.append(("lines that cannot be read", f"{unreadable:,}"))
    return figures
