"""A row of the table: what one result's summary.json says, in the columns that people sort and filter by."""

import csv
import io
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from spade_cli.errors import SpadeError

Row = dict[str, Any]
DONE, FAILED = "done", "failed"
NETWORKS = ("dense", "trace")
COLUMNS = (
    *("number", "image", "folder", "status", "reason", "target"),
    *("dense_label", "dense_probability", "trace_label", "trace_probability"),
    *("same_prediction", "agreement", "kl", "sparsity", "flags", "seconds"),
)


def done(number: int, image: str, folder: str, summary: Mapping[str, Any], job: Mapping[str, Any]) -> Row:
    """The row of a finished result; `job` is what a sweep adds."""
    return {
        "number": number,
        "image": image,
        **job,
        "folder": folder,
        "status": DONE,
        "reason": "",
        "target": summary["target"]["label"],
        "prediction": {
            name: {key: summary["prediction"][name][key] for key in ("index", "label", "probability")}
            | {"target_probability": summary["prediction"][name]["target_probability"]}
            for name in NETWORKS
        },
        **{key: summary["fidelity"][key] for key in ("same_prediction", "agreement", "kl")},
        "sparsity": summary["sparsity"]["achieved"],
        "flags": summary["flags"],
        "seconds": summary["seconds"]["total"],
    }


def failed(number: int, image: str, error: BaseException | str, job: Mapping[str, Any]) -> Row:
    """The row of an image that could not be explained, with its reason; a fault of the program's with its traceback."""
    row: Row = {"number": number, "image": image, **job, "folder": "", "status": FAILED}
    if isinstance(error, str | SpadeError):
        reason = " ".join(str(error).split())
        return row | {"reason": reason.removeprefix(f"image={image}").lstrip(": ")}  # it has a column of its own
    trace = "".join(traceback.format_exception(error))
    return row | {"reason": " ".join(f"{type(error).__name__}: {error}".split()), "traceback": trace}


def as_csv(row: Mapping[str, Any], options: Sequence[str]) -> str:
    """One line of the CSV file, its end included; `options` are a sweep's, by name."""
    prediction = row.get("prediction", {})
    flat = {
        **row,
        **row.get("options", {}),
        **{f"{name}_{key}": prediction.get(name, {}).get(key) for name in NETWORKS for key in ("label", "probability")},
        "flags": "; ".join(row.get("flags", [])),
    }
    return _line([flat.get(column, "") for column in columns(options)])


def header(options: Sequence[str]) -> str:
    """The first line of the CSV file."""
    return _line(columns(options))


def columns(options: Sequence[str]) -> list[str]:
    """The CSV file's columns: a sweep has one for each option, behind the image."""
    return [*COLUMNS[:2], *options, *COLUMNS[2:]]


def _line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()
