"""diff.html: two runs side by side, what each trace kept, and the channels that only one of them uses."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from spade_cli.files import write_whole
from spade_cli.report import words
from spade_cli.report.charts import bar
from spade_cli.report.neurons_page import Neuron, shown
from spade_cli.report.render import inlined, render
from spade_cli.report.summary import Summary


def write_difference(
    out: Path,
    runs: Mapping[str, Summary],
    folders: Mapping[str, Path],
    photographs: Mapping[str, Image.Image],
    overlaps: Sequence[Any],
    only: Mapping[str, Sequence[Neuron]],
    command: str,
) -> Path:
    """Write the page, whole; `runs`, `folders` and `photographs` are by name, A and B.

    `overlaps` have the fields of `spade_cli.inspection.compare_traces.Overlap`.
    """
    page = render(
        "diff.html",
        title="Two traces",
        runs=runs,
        folders=folders,
        words=words,
        photographs={name: inlined(photograph, 448) for name, photograph in photographs.items()},
        overlaps=overlaps,
        only={name: [shown(one, photographs, runs[name]) for one in neurons] for name, neurons in only.items()},
        bar=bar,
        command=command,
    )
    write_whole(out, lambda path: path.write_text(page, encoding="utf-8"))
    return out
