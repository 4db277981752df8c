"""What a notebook shows of a run, a trace and a map; traces and maps know no HTML themselves."""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path

from spade_cli.files import expand_path
from spade_cli.interpretation.explanation import Explanation
from spade_cli.pruning import Trace
from spade_cli.report.charts import layer_table
from spade_cli.report.pictures import aggregate, heat, shared_top
from spade_cli.report.runs import REPORT, find_page
from spade_cli.report.summary import Summary, read_summary


@dataclass(frozen=True)
class Run:
    """A finished run, for a notebook: its folder, its summary, and its report as what is shown."""

    path: Path

    @property
    def summary(self) -> Summary:
        """summary.json, read."""
        return read_summary(self.path)

    def _repr_html_(self) -> str:
        """The report in a frame of its own, so that its styles and scripts stay within."""
        page = escape((self.path / REPORT).read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" title="{REPORT}" style="width:100%;height:760px;border:0"></iframe>'


def open_run(folder: str | Path) -> Run:
    """A run that `spade run` wrote. Raises UserError where the folder holds none."""
    return Run(find_page(str(expand_path(folder)), Path()).parent)


def show_trace(trace: Trace) -> str:
    """A trace as HTML: its line, and a chart of its layers."""
    return f"<p>{escape(repr(trace))}</p>{layer_table(trace.layers)}"


def show_explanation(explanation: Explanation) -> str:
    """A map as HTML, on its own scale, with its checks and what is wrong with it; enlarged by whole pixels."""
    pixels = aggregate(explanation.map)
    top, buffer = shared_top([pixels]), io.BytesIO()
    heat(pixels, top).save(buffer, "PNG")
    data, title = base64.b64encode(buffer.getvalue()).decode(), "absolute channel sum"
    checks = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in explanation.checks.items()]
    notes = "".join(f"<br>{escape(note)}" for note in [*checks, *explanation.warnings])
    return (
        f'<figure style="margin:0;display:inline-block"><img src="data:image/png;base64,{data}" '
        f'alt="{title}" style="width:280px;image-rendering:pixelated">'
        f"<figcaption>{title}: 0 to {top:.3g}{notes}</figcaption></figure>"
    )


def show_in_notebooks() -> None:
    """Let notebooks show traces and maps as HTML: they ask an object's class for `_repr_html_`."""
    Trace._repr_html_ = show_trace  # type: ignore[attr-defined]
    Explanation._repr_html_ = show_explanation  # type: ignore[attr-defined]
