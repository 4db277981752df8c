"""Class names: read from a text or JSON file, and found by the label or index that the user gives."""

import ast
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from spade_cli.errors import UserError

MAX_BYTES = 50_000_000  # names of a million classes; a larger file was meant for another setting
BYTE_ORDERS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # how editors on Windows mark UTF-16
NUMBERED = re.compile(r"\s*(?P<index>\d{1,9})(?:\s*[:,;=\t]\s*|\s+)(?P<name>.*\S)\s*")  # 0: tench
NUMBERED_BEHIND = re.compile(r"\s*(?P<name>\S.*?)\s*[:,;=\t]\s*(?P<index>\d{1,9})\s*")  # tench,0
SYNSET = re.compile(r"n\d{8}\s+(?=\S)")  # WordNet's number, in front of the names in ImageNet's lists
FORMS = "write a list of names, {index: name} or {name: index}"


def read_labels(path: Path, classes: int) -> tuple[str, ...]:
    """Names in the order of the classes, from text or JSON in UTF-8.

    Text has one name a line, or the index and the name. JSON (or a Python literal) is a list, {index: name},
    {index: [id, name]}, {name: index}, or holds one of them under "id2label". Raises UserError for anything else, and
    for another number of names than `classes`.
    """
    asked = f"model.labels={path}"
    text = _read_text(path, asked)
    if path.suffix.lower() == ".json":
        found = _list_names(_parse_json(text, asked), asked)
    elif text.lstrip().startswith(("{", "[")) and (content := _parse_literal(text)) is not None:
        found = _list_names(content, asked)
    else:
        found = _split_names(text)
    names = tuple(_remove_controls(label) or f"class {index}" for index, label in enumerate(found))
    if len(names) != classes:
        raise UserError(f"{asked} names {len(names)} classes, but the network has {classes}: give one name a class")
    return names


def _read_text(path: Path, asked: str) -> str:
    try:
        if path.is_dir():
            raise UserError(f"{asked} is a folder: give a text file with one class a line, or JSON")
        if not path.exists():
            raise UserError(f"{asked}: no such file; give a text file with one class a line, or JSON")
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise UserError(f"{asked} is not a file of class names: give a text file with one class a line, or JSON")
        content = path.read_bytes()
        return content.decode(BYTE_ORDERS.get(content[:2], "utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{asked} is not UTF-8 text: save it as text with one class a line, or as JSON") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{asked} cannot be read ({reason}): check the path and its permissions") from None


def _remove_controls(label: str) -> str:
    """A label without control characters, which would break the lines that it is printed in."""
    return "".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in label).strip()


def _split_names(text: str) -> list[str]:
    # Only these end a line: splitlines would also split a name at a form feed or at Unicode's separators.
    lines = re.split(r"\r\n|\n|\r", text.rstrip()) if text.strip() else []
    for form in (NUMBERED, NUMBERED_BEHIND):
        matches = [match for match in map(form.fullmatch, lines) if match]
        if lines and len(matches) == len(lines):
            by_index = {int(match["index"]): match["name"] for match in matches}
            first = min(by_index)
            if first in (0, 1) and set(by_index) == set(range(first, first + len(lines))):
                lines = [by_index[index] for index in sorted(by_index)]
                break
    if lines and all(map(SYNSET.match, lines)):
        lines = [SYNSET.sub("", line, count=1) for line in lines]
    return lines


def _parse_json(text: str, asked: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        literal = _parse_literal(text)
        if literal is not None:
            return literal
        raise UserError(
            f"{asked} is not JSON (line {error.lineno}: {error.msg}): put it right, or give plain text"
        ) from None
    except (RecursionError, ValueError):  # ValueError: a number of thousands of digits
        raise UserError(f"{asked} is nested too deeply or too long: {FORMS}") from None


def _parse_literal(text: str) -> Any:
    """A dictionary or a list as Python or JSON writes it; None for anything else."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def _list_names(content: Any, asked: str) -> list[str]:
    if isinstance(content, Mapping) and isinstance(content.get("id2label"), Mapping):  # Hugging Face's config.json
        content = content["id2label"]
    if isinstance(content, Mapping):
        content = _order_by_index(content, asked)
    if not isinstance(content, list | tuple):
        raise UserError(f"{asked} holds {type(content).__name__}: {FORMS}")
    names = [entry[-1] if isinstance(entry, list | tuple) and entry else entry for entry in content]
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"{asked} holds {name!r:.40} where a class name is expected: {FORMS}")
    return names


def _order_by_index(content: Mapping[Any, Any], asked: str) -> list[Any]:
    """{"0": name} or {name: 0}, which torchvision calls class_to_idx, as a list."""
    wanted = list(range(len(content)))
    if all(isinstance(value, int) for value in content.values()):
        content = {index: name for name, index in content.items()}
    named = {str(key): value for key, value in content.items()}
    if set(named) != set(map(str, wanted)):
        raise UserError(f"{asked}: its indices are not 0 to {len(wanted) - 1}: {FORMS}")
    return [named[str(index)] for index in wanted]


def find_class(asked: str | int, labels: Sequence[str] | None, classes: int) -> int:
    """The index of a class, given by label or index. A label goes first, so that a class can be named '7'.

    Raises UserError for a class that the network lacks, and for a label of several classes.
    """
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
            raise UserError(_describe_unknown(asked, labels, classes))
    index = int(asked)
    if not 0 <= index < classes:
        raise UserError(f"class {index} is out of range: the network has {classes} classes, 0 to {classes - 1}")
    return index


def _describe_unknown(asked: str, labels: Sequence[str] | None, classes: int) -> str:
    if not labels:
        known = f"an index, 0 to {classes - 1}, or labels (model.labels=PATH)"
        return f"{asked!r}: the classes' names are not known; give {known}"
    lower = {label.casefold(): label for label in labels}
    wanted = asked.strip().casefold()
    near = [lower[name] for name in get_close_matches(wanted, lower, n=5)]
    near += [label for name, label in lower.items() if wanted and wanted in name and label not in near]
    hint = f"close: {', '.join(near[:5])}" if near else f"there are {len(labels)}, such as {', '.join(labels[:3])}"
    return f"{asked!r} is no class of this network; {hint}; or give an index, 0 to {classes - 1}"
