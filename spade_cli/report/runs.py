"""The folders that runs have left: where they are, and their key figures. It reads JSON alone, so that it is quick."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError
from spade_cli.files import expand_path

SUMMARY, OVERVIEW, REPORT, GALLERY = "summary.json", "overview.png", "report.html", "index.html"
DEEPEST = 5  # folders below the one that is searched: outputs/<date>/<batch>/<image>, and one to spare


@dataclass(frozen=True)
class Run:
    """A finished run, for a notebook: its folder, its summary, and its report as what is shown."""

    path: Path

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json."""
        return read_summary(self.path)

    def _repr_html_(self) -> str:
        """The report in a frame of its own, so that its styles and scripts stay within."""
        page = escape((self.path / REPORT).read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" title="{REPORT}" style="width:100%;height:760px;border:0"></iframe>'


def open_run(folder: str | Path) -> Run:
    """A run that `spade run` wrote. Raises UserError where the folder holds none."""
    return Run(find_page(str(expand_path(folder)), Path()).parent)


def find_runs(out: Path) -> list[Path]:
    """Every folder in `out` that holds a finished run, the latest last."""
    return sorted(_holding(out, SUMMARY), key=lambda run: ((run / SUMMARY).stat().st_mtime_ns, str(run)))


def find_run(asked: str | None, out: Path) -> Path:
    """A run by its folder, or by a part of its name: the latest of those in `out`; None: the latest of all.

    FOLDER/PART looks in FOLDER instead. Raises UserError where there is no such run.
    """
    if asked is not None and (Path(asked) / SUMMARY).is_file():
        return Path(asked)
    if asked is not None and Path(asked).exists():
        raise UserError(f"{asked} holds no {SUMMARY}: give the folder of a finished run; spade list shows them")
    place, part = (out, asked) if asked is None or not _names_folder(asked) else (Path(asked).parent, Path(asked).name)
    runs = find_runs(place)
    if not runs and place == out:
        raise UserError(f"{place} holds no run; make one with spade run, or name the folder that holds your runs")
    named = [run for run in runs if part is None or part in run.name]
    if not named:
        raise UserError(f"{asked} is not a folder, and no run in {place} has {part} in its name; spade list shows them")
    return named[-1]


def _names_folder(asked: str) -> bool:
    """Whether a run is looked for in a folder of its own: `elsewhere/cat`."""
    return len(Path(asked).parts) > 1 and Path(asked).parent.is_dir()


def find_page(asked: str | None, out: Path) -> Path:
    """The page to look at: a run's report, or the gallery of a folder of runs. Raises UserError where there is none."""
    if asked is not None and not (Path(asked) / SUMMARY).is_file() and (Path(asked) / GALLERY).is_file():
        return Path(asked) / GALLERY
    run = find_run(asked, out)
    if not (run / REPORT).is_file():
        raise UserError(f"{run} holds no {REPORT}: make the run again, with report in keep=[...]")
    return run / REPORT


def read_summary(run: Path) -> dict[str, Any]:
    """A run's summary.json. Raises UserError where it cannot be read."""
    try:
        found = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{run / SUMMARY} cannot be read ({error}); give the folder of a finished run") from error
    try:
        _check_figures(key_figures(found))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{run / SUMMARY} is not of a run; give a folder that spade run wrote") from None
    return dict(found)


def key_figures(found: dict[str, Any]) -> dict[str, Any]:
    """What a line about a run says, from its summary."""
    dense, trace = found["prediction"]["dense"], found["prediction"]["trace"]
    return {
        "image": Path(found["image"]["path"].replace("\\", "/")).name,
        "model": found["model"]["name"],
        "target": found["target"]["label"],
        "dense": {name: dense[name] for name in ("label", "probability", "target_probability")},
        "trace": {name: trace[name] for name in ("label", "probability", "target_probability")},
        "same_prediction": found["fidelity"]["same_prediction"],
        "agreement": found["fidelity"]["agreement"],
        "kl": found["fidelity"]["kl"],
        "sparsity": found["sparsity"]["achieved"],
        "flags": found["flags"],
        "seconds": found["seconds"]["total"],
    }


def _check_figures(figures: dict[str, Any]) -> None:
    """TypeError where a figure is not a number, or a text not a text."""
    numbers = [figures[name] for name in ("agreement", "kl", "sparsity", "seconds")]
    texts = [figures["target"], figures["model"]]
    for network in (figures["dense"], figures["trace"]):
        numbers += [network["probability"], network["target_probability"]]
        texts.append(network["label"])
    sum(numbers), "".join(texts), len(figures["flags"])


def _holding(folder: Path, name: str) -> Iterator[Path]:
    """Folders within `folder`, itself among them, that hold a file of this name; nothing within those, none hidden."""
    for place, folders, files in os.walk(folder):
        if name in files:
            yield Path(place)
            folders.clear()
        elif len(Path(place).relative_to(folder).parts) >= DEEPEST:
            folders.clear()
        folders[:] = [one for one in folders if not one.startswith(".")]
