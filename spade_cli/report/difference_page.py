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


def write_difference(
    out: Path,
    runs: Mapping[str, Mapping[str, Any]],
    photographs: Mapping[str, Image.Image],
    overlaps: Sequence[Any],
    only: Mapping[str, Sequence[Neuron]],
    command: str,
) -> Path:
    """Write the page, whole; `runs` maps A and B to their summaries, with the folder under `run`.

    `overlaps` have the fields of `spade_cli.inspection.compare_traces.Overlap`.
    """
    page = render(
        "diff.html",
        title="Two traces",
        runs=runs,
        words=words,
        photographs={name: inlined(photograph, 448) for name, photograph in photographs.items()},
        overlaps=overlaps,
        only={name: [shown(one, photographs, runs[name]) for one in neurons] for name, neurons in only.items()},
        bar=bar,
        command=command,
    )
    write_whole(out, lambda path: path.write_text(page, encoding="utf-8"))
    return out
