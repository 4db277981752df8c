"""Class names: read from a text or JSON file, and found again by what the user calls them."""

import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from spade_cli.errors import UserError


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """Names in the order of the classes: text, one a line, or JSON: a list, {index: name} or {index: [id, name]}."""
    asked = f"model.labels={path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{asked}: no such file; give a text file with one class a line, or JSON") from None
    except ValueError:  # not UTF-8, or a null byte in the path
        raise UserError(f"{asked} is not UTF-8 text: save it as text with one class a line, or as JSON") from None
    except OSError as error:
        raise UserError(f"{asked} cannot be read ({error.strerror}): check the path and its permissions") from None
    labels = _from_json(text, asked) if path.suffix.lower() == ".json" else _lines(text)
    names = tuple(label.strip() or f"class {index}" for index, label in enumerate(labels))
    if len(names) != classes:
        raise UserError(f"{asked} names {len(names)} classes, but the network has {classes}: give one name a class")
    return names


def _lines(text: str) -> list[str]:
    # Only "\n" ends a line here: splitlines would also split a name at a form feed or at Unicode's separators.
    return text.rstrip().split("\n") if text.strip() else []


def _from_json(text: str, asked: str) -> list[str]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{asked} is not JSON (line {error.lineno}: {error.msg}): correct it, or give plain text"
        ) from None
    except RecursionError:
        raise UserError(f"{asked} is nested too deeply: write a list of names or {{index: name}}") from None
    if isinstance(content, dict):
        if set(content) != {str(index) for index in range(len(content))}:
            raise UserError(
                f"{asked}: its keys are not 0 to {len(content) - 1}; write {{index: name}} or a list of names"
            )
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list):
        raise UserError(f"{asked} holds {type(content).__name__}: write a list of names or {{index: name}}")
    names = [entry[-1] if isinstance(entry, list) and entry else entry for entry in content]
    for name in names:
        if not isinstance(name, str):
            raise UserError(
                f"{asked} holds {name!r:.40} where a class name is expected: write a list of names or {{index: name}}"
            )
    return names


def find_class(asked: str | int, labels: Sequence[str] | None, classes: int) -> int:
    """A label or an index as an index; a label wins over an index, so that the digit '7' can be a class's name."""
    if isinstance(asked, str):
        same = [index for index, label in enumerate(labels or ()) if label == asked]
        same = same or [
            index for index, label in enumerate(labels or ()) if label.casefold() == asked.strip().casefold()
        ]
        if len(same) > 1:
            raise UserError(
                f"{asked!r} names {len(same)} classes: give the index of one, {' or '.join(map(str, same))}"
            )
        if same:
            return same[0]
        if not re.fullmatch(r"\s*[+-]?\d{1,9}\s*", asked):
            raise UserError(_unknown(asked, labels, classes))
    index = int(asked)
    if not 0 <= index < classes:
        raise UserError(f"class {index} is out of range: the network has {classes} classes, 0 to {classes - 1}")
    return index


def _unknown(asked: str, labels: Sequence[str] | None, classes: int) -> str:
    if not labels:
        return f"{asked!r}: the classes' names are not known; give an index, 0 to {classes - 1}, or model.labels=PATH"
    lower = {label.casefold(): label for label in labels}
    wanted = asked.strip().casefold()
    near = [lower[name] for name in get_close_matches(wanted, lower, n=5)]
    near += [label for name, label in lower.items() if wanted and wanted in name and label not in near]
    hint = f"close: {', '.join(near[:5])}" if near else f"there are {len(labels)}, such as {', '.join(labels[:3])}"
    return f"{asked!r} is no class of this network; {hint}; or give an index, 0 to {classes - 1}"
