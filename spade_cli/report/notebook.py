"""What a notebook shows of a trace and of a map; neither knows HTML itself."""

from html import escape

from spade_cli.interpretation.explanation import Explanation
from spade_cli.pruning import Trace
from spade_cli.report.charts import layer_table, map_picture


def show_trace(trace: Trace) -> str:
    """A trace as HTML: its line, and a chart of its layers."""
    return f"<p>{escape(repr(trace))}</p>{layer_table(trace.layers)}"


def show_explanation(explanation: Explanation) -> str:
    """A map as HTML, with its checks and what is wrong with it."""
    checks = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in explanation.checks.items()]
    return map_picture(explanation.map, "absolute channel sum", [*checks, *explanation.warnings])


def show_in_notebooks() -> None:
    """Let notebooks show traces and maps as HTML: they ask an object's class for `_repr_html_`."""
    Trace._repr_html_ = show_trace  # type: ignore[attr-defined]
    Explanation._repr_html_ = show_explanation  # type: ignore[attr-defined]
