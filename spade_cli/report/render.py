"""Templates to pages that stand alone: styles, scripts and pictures are all within the file."""

import base64
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from spade_cli.report.pictures import SIGNED, STRENGTH, palette
from spade_cli.version import __version__

TEMPLATES = Path(__file__).with_name("templates")
LOSSY = 85  # WebP's quality: views and visualizations show no trace of it at the size they are shown in


def render(template: str, **context: Any) -> str:
    """A template of this package as a whole page."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "json": as_json, "number": number}
    environment.globals |= {"asset": asset, "spade_version": __version__, "palettes": _palettes}
    return environment


def percent(share: float | None) -> str:
    """A share as people read it: in percent, with the digits that tell it from none and from all; "?" if unknown.

    >>> percent(0.9512), percent(0.0031), percent(0.9996), percent(1.0), percent(1e-9)
    ('95%', '0.3%', '99.96%', '100%', 'under 0.01%')
    """
    if share is None:
        return "?"
    if share in (0, 1) or 0.01 <= share <= 0.99:
        return f"{share:.0%}"
    if min(share, 1 - share) < 1e-4:
        return "under 0.01%" if share < 0.5 else "over 99.99%"
    return f"{share:.1%}" if min(share, 1 - share) >= 1e-3 else f"{share:.2%}"


def number(value: float | None) -> str:
    """Three digits; "?" where it is not known."""
    return "?" if value is None else f"{value:.3g}"


def as_json(value: Any) -> Markup:
    """JSON that a script element holds safely: nothing within ends it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def asset(name: str) -> Markup:
    """A style sheet or a script of this package, to stand within the page."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def inline_picture(image: Image.Image, side: int | None = None) -> str:
    """A picture as a data URI, as WebP; made smaller where it is wider or higher than `side`."""
    image = image.convert("RGB")
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=LOSSY, method=6)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _palettes() -> dict[str, str]:
    """The colour maps that the page draws with: 256 colours of three bytes each, in base64."""
    names = {"strength": STRENGTH, "sign": SIGNED}
    return {what: base64.b64encode(palette(name).tobytes()).decode() for what, name in names.items()}
