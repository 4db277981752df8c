"""sweep.png: one image, sparsity from left to right, methods and pruners from top to bottom."""

import io
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from spade_cli.batch.axes import TRACE, Axes, arrange_jobs
from spade_cli.batch.storage import LAST, Storage
from spade_cli.batch.table import JobSettings
from spade_cli.report.overview import INK, PALE, PAPER, WARNING, clip_text, font, shape_tile
from spade_cli.report.pictures import COMMON, OWN, Pixels, aggregate, find_tops, find_weaker, overlay
from spade_cli.report.summary import SaliencyRecord, Summary, VisualizationRecord, parse_summary

TILE = 168  # pixels of a picture's longer side: nine columns fit a wide screen
GAP = 10
MARGIN = 190  # left of each line, for its name
TITLE, TEXT, NOTE = 26, 16, 13  # font sizes in pixels
HEAD = TILE + 4 * GAP  # the image and the question
CELL = 44  # height of a line of the table of answers
DENSE = "dense"
SECTION = 30  # height of a section's title
LEAST, WIDEST = 900, 2000  # pixels across: room for the text, and what a screen shows


class _Found:
    """The files of one image's jobs."""

    def __init__(self, storage: Storage, folders: Mapping[int, str]) -> None:
        self.storage, self.folders = storage, folders
        self.summaries = {
            job: parse_summary(storage.read(f"{folder}/{LAST}"), folder) for job, folder in folders.items()
        }

    def maps(self, job: int) -> dict[str, dict[str, SaliencyRecord]]:
        """Of one job: method -> network -> its record."""
        found: dict[str, dict[str, SaliencyRecord]] = {}
        for record in self.summaries[job].saliency if job in self.summaries else ():
            found.setdefault(record.method, {})[record.network] = record
        return found

    def visualizations(self, job: int) -> dict[str, dict[str, VisualizationRecord]]:
        """Of one job: target -> network -> its record."""
        found: dict[str, dict[str, VisualizationRecord]] = {}
        for record in self.summaries[job].visualizations if job in self.summaries else ():
            found.setdefault(record.target, {})[record.network] = record
        return found

    def pixels(self, job: int, path: str) -> Pixels:
        raw = np.load(io.BytesIO(self.storage.read(f"{self.folders[job]}/{path}")))
        return aggregate(torch.from_numpy(raw))

    def picture(self, job: int, path: str) -> Image.Image:
        return Image.open(io.BytesIO(self.storage.read(f"{self.folders[job]}/{path}"))).convert("RGB")


Place = tuple[str, Any]  # line, and value of the axis or DENSE
Cells = dict[Place, tuple[Image.Image, str]]  # each picture with a note


def sweep_picture(
    storage: Storage, name: str, view: Image.Image, jobs: Mapping[int, JobSettings], folders: Mapping[int, str]
) -> Image.Image:
    """One image's results beside one another.

    `jobs` are the settings of every job, `folders` the results that are there. Maps are on the scale that the results
    have. A note says how many times weaker a map is than the strongest one of its method.
    """
    found = _Found(storage, folders)
    axes = arrange_jobs(_name_targets(jobs, found.summaries))
    sections = [*_maps(axes, found, view), *_visualizations(axes, found)]
    columns, lines = [DENSE, *axes.values], list(axes.lines)
    width = MARGIN + len(columns) * (TILE + GAP) + GAP
    table = HEAD + 2 * GAP + CELL * len(lines) + SECTION
    tile = shape_tile(view.size, TILE)
    high = SECTION + len(lines) * (tile[1] + GAP) + GAP
    across = max(1, min(len(sections), WIDEST // width))
    size = (max(width * across, LEAST), table + high * ceil(len(sections) / across) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _head(sheet, draw, name, view, found)
    _table(draw, axes, found, HEAD + GAP)
    for i, (title, cells) in enumerate(sections):
        _section(sheet, draw, title, cells, lines, columns, (width * (i % across), table + high * (i // across)), tile)
    return sheet


def _name_targets(jobs: Mapping[int, JobSettings], summaries: Mapping[int, Summary]) -> dict[int, JobSettings]:
    """The jobs' settings with what their targets, such as `top2`, mean for this image."""
    words = {jobs[job]["target"]: one.target.words for job, one in summaries.items() if "target" in jobs[job]}
    if len(set(words.values())) < len(words):  # two of them mean the same
        words = {asked: f"{asked}: {one}" for asked, one in words.items()}
    return {
        job: {**settings, "target": words.get(settings["target"], settings["target"])} if words else settings
        for job, settings in jobs.items()
    }


def _maps(axes: Axes, found: _Found, view: Image.Image) -> list[tuple[str, Cells]]:
    records = {job: found.maps(job) for job in found.folders}
    sections = []
    for method in dict.fromkeys(method for of_job in records.values() for method in of_job):
        pixels: dict[Place, Pixels] = {}
        scales = set()
        for line, value, job in _places(axes, found):
            for network, record in records[job].get(method, {}).items():
                place = _place(axes, line, value, network)
                if place not in pixels:
                    pixels[place] = found.pixels(job, record.array)
                scales.add(record.scale)
        tops = find_tops(pixels, OWN if OWN in scales else COMMON)
        notes = {place: f"{times:.3g} x weaker" for place, times in find_weaker(pixels).items()}
        cells = {place: (overlay(one, tops[place], view), notes.get(place, "")) for place, one in pixels.items()}
        sections.append((method.replace("_", " "), cells))
    return sections


def _visualizations(axes: Axes, found: _Found) -> list[tuple[str, Cells]]:
    sections: dict[str, Cells] = {}
    for line, value, job in _places(axes, found):
        for target, networks in found.visualizations(job).items():
            for network, record in networks.items():
                place = _place(axes, line, value, network)
                cells = sections.setdefault(f"maximizes {target}", {})
                if place not in cells:
                    cells[place] = found.picture(job, record.picture), ""
    return list(sections.items())


def _places(axes: Axes, found: _Found) -> list[tuple[str, Any, int]]:
    return [
        (line, value, jobs[value])
        for line, jobs in axes.lines.items()
        for value in axes.values
        if value in jobs and jobs[value] in found.folders
    ]


def _place(axes: Axes, line: str, value: Any, network: str) -> Place:
    """The cell of a picture. The dense network has one cell, or one in each line where the sweep varies the network."""
    if network == "trace":
        return line, value
    return (line if axes.networks else next(iter(axes.lines))), DENSE


def _head(sheet: Image.Image, draw: ImageDraw.ImageDraw, name: str, view: Image.Image, found: _Found) -> None:
    summary = next(iter(found.summaries.values()))
    sheet.paste(view.resize(shape_tile(view.size, TILE), Image.Resampling.LANCZOS), (GAP * 2, GAP * 2))
    left, dense = GAP * 4 + TILE, summary.prediction.dense
    asked = list(dict.fromkeys(one.target.words for one in found.summaries.values()))
    draw.text((left, GAP * 2), f"why {asked[0]}?" if len(asked) == 1 else "why each of these?", INK, font(TITLE))
    names = f"{name.rsplit('/', 1)[-1]}, {summary.model.name}"
    draw.text((left, GAP * 2 + 44), names, PALE, font(TEXT))
    draw.text((left, GAP * 2 + 70), f"dense: {dense.label} {dense.probability:.1%}", PALE, font(TEXT))
    draw.text((left, GAP * 2 + 122), "below: what each trace answers, and how alike it is", PALE, font(TEXT))


def _table(draw: ImageDraw.ImageDraw, axes: Axes, found: _Found, top: int) -> None:
    """What each trace answers: the columns' heads, and a line for each line of the sweep."""
    draw.text((GAP * 2, top), "target" if axes.along == TRACE else axes.along, PALE, font(TEXT))
    for i, column in enumerate([DENSE, *axes.values]):
        draw.text((MARGIN + i * (TILE + GAP), top), clip_text(str(column), TEXT, TILE), INK, font(TEXT))
    for j, line in enumerate(axes.lines):
        y = top + SECTION + j * CELL
        draw.text((GAP * 2, y + 6), clip_text(line, TEXT, MARGIN - 3 * GAP), INK, font(TEXT))
        for i, value in enumerate(axes.values, 1):
            job = axes.lines[line].get(value)
            if job in found.summaries:
                _cell(draw, found.summaries[job], (MARGIN + i * (TILE + GAP), y))


def _cell(draw: ImageDraw.ImageDraw, summary: Summary, place: tuple[int, int]) -> None:
    answer, fidelity = summary.prediction.trace, summary.fidelity
    colour = PALE if fidelity.same_prediction else WARNING
    text = f"{answer.label} {answer.probability:.0%}"
    draw.text(place, clip_text(text, NOTE, TILE), colour, font(NOTE))
    agrees = f"agrees {fidelity.agreement:.0%}, KL {fidelity.kl:.2g}"
    draw.text((place[0], place[1] + 18), agrees, PALE, font(NOTE))


def _section(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    title: str,
    cells: Cells,
    lines: Sequence[str],
    columns: Sequence[Any],
    corner: tuple[int, int],
    tile: tuple[int, int],
) -> None:
    (left, top), (width, height) = corner, tile
    there = {column for _, column in cells}
    draw.text((left + GAP * 2, top), clip_text(title, TEXT, MARGIN - 3 * GAP), INK, font(TEXT))
    for i, column in enumerate(columns):
        x = left + MARGIN + i * (TILE + GAP)
        draw.text((x, top + 4), clip_text(str(column), NOTE, TILE), PALE, font(NOTE))
    for j, line in enumerate(lines):
        y = top + SECTION + j * (height + GAP)
        draw.text(
            (left + GAP * 2, y + height // 2), clip_text(line, TEXT, MARGIN - 3 * GAP), PALE, font(TEXT), anchor="lm"
        )
        for i, column in enumerate(columns):
            x = left + MARGIN + i * (TILE + GAP)
            if (line, column) in cells:
                image, note = cells[line, column]
                sheet.paste(image.resize(tile, Image.Resampling.LANCZOS), (x, y))
                _write_note(draw, note, (x, y + height))
            elif column != DENSE or not there & {DENSE}:
                draw.rectangle((x, y, x + width - 1, y + height - 1), outline=(225, 225, 230))
                draw.text((x + width // 2, y + height // 2), "not there", PALE, font(NOTE), anchor="mm")


def _write_note(draw: ImageDraw.ImageDraw, note: str, corner: tuple[int, int]) -> None:
    """A few words on a dark strip in the lower left corner of a picture."""
    if not note:
        return
    start = (corner[0] + 5, corner[1] - 5)
    _, top, right, _ = draw.textbbox(start, note, font(NOTE), anchor="ls")
    draw.rectangle((corner[0], top - 4, right + 5, corner[1] - 1), fill=INK)
    draw.text(start, note, PAPER, font(NOTE), anchor="ls")
