"""The folders that runs have left: where they are, and their key figures. It reads JSON alone, so that it is quick."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError
from spade_cli.report.summary import SUMMARY, Prediction, Summary

OVERVIEW, REPORT, GALLERY = "overview.png", "report.html", "index.html"
DEEPEST = 5  # folders below the one that is searched: outputs/<date>/<batch>/<image>, and one to spare


def find_runs(out: Path) -> list[Path]:
    """Every folder in `out` that holds a finished run, the latest last."""
    return sorted(_find_holders(out, SUMMARY), key=lambda run: ((run / SUMMARY).stat().st_mtime_ns, str(run)))


def find_run(asked: str | None, out: Path) -> Path:
    """A run by its folder, or by a part of its name: the latest of those in `out`; None: the latest of all.

    A folder with one run in it is that run. FOLDER/PART looks in FOLDER instead. Raises UserError where there is
    no such run.
    """
    if asked is not None and (Path(asked) / SUMMARY).is_file():
        return Path(asked)
    if asked is not None and Path(asked).is_dir() and len(inside := find_runs(Path(asked))) == 1:
        return inside[0]
    if asked is not None and Path(asked).exists():
        raise UserError(f"{asked} holds no {SUMMARY}: give the folder of a finished run; spade list shows them")
    place, part = out, asked
    if asked is not None and len(Path(asked).parts) > 1 and Path(asked).parent.is_dir():  # `elsewhere/cat`
        place, part = Path(asked).parent, Path(asked).name
    runs = find_runs(place)
    if not runs and place == out:
        raise UserError(f"{place} holds no run; make one with spade run, or name the folder that holds your runs")
    named = [run for run in runs if part is None or part in run.name]
    if not named:
        raise UserError(f"{asked} is not a folder, and no run in {place} has {part} in its name; spade list shows them")
    return named[-1]


def find_page(asked: str | None, out: Path) -> Path:
    """The page to look at: a run's report, or the gallery of a folder of runs. Raises UserError where there is none."""
    if asked is not None and not (Path(asked) / SUMMARY).is_file() and (Path(asked) / GALLERY).is_file():
        return Path(asked) / GALLERY
    run = find_run(asked, out)
    if not (run / REPORT).is_file():
        raise UserError(f"{run} holds no {REPORT}: make the run again, with report in keep=[...]")
    return run / REPORT


def key_figures(summary: Summary) -> dict[str, Any]:
    """What a line about a run says, as JSON has it."""
    return {
        "image": Path(summary.image.path.replace("\\", "/")).name,
        "model": summary.model.name,
        "target": summary.target.words,
        "dense": _answer_figures(summary.prediction.dense),
        "trace": _answer_figures(summary.prediction.trace),
        "same_prediction": summary.fidelity.same_prediction,
        "agreement": summary.fidelity.agreement,
        "kl": summary.fidelity.kl,
        "sparsity": summary.sparsity.achieved,
        "flags": summary.flags,
        "seconds": summary.seconds["total"],
    }


def _answer_figures(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": prediction.label,
        "probability": prediction.probability,
        "target_probability": prediction.target_probability,
    }


def _find_holders(folder: Path, name: str) -> Iterator[Path]:
    """Folders within `folder`, itself among them, that hold a file of this name; nothing within those, none hidden."""
    for place, folders, files in os.walk(folder):
        if name in files:
            yield Path(place)
            folders.clear()
        elif len(Path(place).relative_to(folder).parts) >= DEEPEST:
            folders.clear()
        folders[:] = [one for one in folders if not one.startswith(".")]
