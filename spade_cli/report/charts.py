"""Small charts as inline SVG within HTML tables, so that a phone, a screen reader and a notebook can all read them."""

import math
from collections.abc import Iterable
from html import escape

from spade_cli.records import LayerRecord

LEAST_ERROR = 1e-4  # where the axis of errors begins: a ten-thousandth of a layer's output is nothing that matters
STYLE = (
    "<style>.spade-layers{border-collapse:collapse;width:100%;font-size:14px}.spade-layers th,.spade-layers td"
    "{text-align:left;font-weight:400;padding:3px 10px 3px 0;border:0;white-space:nowrap}.spade-layers thead th"
    "{opacity:.65;font-size:12px;white-space:normal}.spade-layers svg{width:clamp(40px,18vw,220px);height:12px;"
    "vertical-align:-1px;margin-right:8px}.spade-layers td span{font-variant-numeric:tabular-nums}"
    ".spade-layers tbody th{white-space:normal;overflow-wrap:anywhere;min-width:6em}</style>"
)


def layer_table(layers: Iterable[LayerRecord]) -> str:
    """A row for each pruned layer: the share of its weights that is left, and its error on an axis of powers of ten.

    Every figure stands beside its bar as text.
    """
    pruned = [layer for layer in layers if layer.left is None]
    if not pruned:
        return "<p>No layer was pruned: the trace is the dense network.</p>"
    head = (
        "<thead><tr><th scope=col>layer</th><th scope=col>weights left</th>"
        f"<th scope=col>error, {LEAST_ERROR:g} to 1</th></tr></thead>"
    )
    return f"{STYLE}<table class=spade-layers>{head}<tbody>{''.join(map(_layer_row, pruned))}</tbody></table>"


def _layer_row(layer: LayerRecord) -> str:
    kept = 1 - layer.achieved
    title = escape(f"{layer.kind}, {layer.weights:,} weights", quote=True)
    return (
        f'<tr><th scope=row title="{title}">{escape(layer.name)}</th>'
        f"<td>{bar(kept)}<span>{kept:.1%}</span></td><td>{_error_cell(layer.error)}</td></tr>"
    )


def bar(share: float, colour: str = "var(--trace, #0072b2)") -> str:
    """A share, 0 to 1, as a bar in its frame; it says nothing to a screen reader: the figure stands beside it."""
    share = min(1.0, max(0.0, share))
    return (
        '<svg viewBox="0 0 100 12" preserveAspectRatio=none aria-hidden=true focusable=false>'
        '<rect width=100 height=12 fill="currentColor" opacity=.12 />'
        f'<rect width={100 * share:.2f} height=12 fill="{colour}" /></svg>'
    )


def _error_cell(error: float | None) -> str:
    if error is None:
        return "<span>not measured</span>"
    decades = -math.log10(LEAST_ERROR)
    place = min(1.0, max(0.0, 1 + math.log10(max(error, LEAST_ERROR)) / decades))
    ticks = "".join(f"<path d='M{100 * i / decades:.1f} 2V10' />" for i in range(int(decades) + 1))
    return (
        '<svg viewBox="-3 0 106 12" preserveAspectRatio=none aria-hidden=true focusable=false>'
        '<g stroke="currentColor" stroke-width=1 vector-effect=non-scaling-stroke opacity=.3>'
        f"<path d='M0 6H100' />{ticks}</g>"
        f'<rect x={100 * place - 1.5:.2f} y=1 width=3 height=10 fill="var(--flag, #d55e00)" /></svg>'
        f"<span>{error:.2g}</span>"
    )
