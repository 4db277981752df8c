"""`conditions=[...]` -> conditions by name: each is what one would type to `spade run`, in short or in full."""

import re
from collections.abc import Mapping
from typing import Any

from spade_cli.cli.config.compose import CommandLine, compose_config, read_settings
from spade_cli.cli.config.settings import trace_settings
from spade_cli.cli.config.typed_words import group, key, quote, split_flags
from spade_cli.errors import UserError
from spade_cli.evaluation.conditions import DENSE, SPARSE_FC, TraceCondition

# A name comes before any word of Hydra's, which has a "=".
NAMED = re.compile(r"(?P<name>[\w][\w .@-]*):\s+(?P<words>.+)", re.DOTALL)
SHORT = re.compile(r"(?P<pruner>\w+)(?:@(?P<sparsity>[\d.]+))?")
QUOTED = re.compile(r"""^(['"])((?:(?!\1).)*)\1$""", re.DOTALL)
OTHER = "image=other"
INHERITED = ("pruner", "schedule")  # the groups of the command line that a condition starts from


def read_conditions(config: Mapping[str, Any], line: CommandLine) -> dict[str, TraceCondition | None]:
    """Conditions by name, dense and sparse_fc as None; `line` is what the rest of the command line says."""
    found: dict[str, TraceCondition | None] = {}
    for name, words in _list_conditions(config.get("conditions")):
        if name in found:
            raise UserError(f"conditions: {name} is there twice; give one of them another name: NAME: {words}")
        if name != words and {name, words} & {DENSE, SPARSE_FC}:
            raise UserError(f"conditions: {name}: {words}: {DENSE} and {SPARSE_FC} keep their own names; take another")
        found[name] = None if words in (DENSE, SPARSE_FC) else _read_condition(name, words, config, line)
    return found


def _list_conditions(value: Any) -> list[tuple[str, str]]:
    """Names and words, from a list or a mapping of a YAML file, or from text of the command line."""
    if isinstance(value, str):
        value = split(value.strip().removeprefix("[").removesuffix("]"), ",")
    if isinstance(value, Mapping):
        value = [f"{name}: {words}" for name, words in value.items()]
    if not isinstance(value, list) or not value or not all(isinstance(entry, str) and entry.strip() for entry in value):
        raise UserError(
            f"conditions={value} is not a list of conditions; write 'conditions=[dense,sparsegpt,forward@0.95]'"
        )
    entries = [QUOTED.sub(r"\2", entry.strip()).strip() for entry in value]
    matches = [(NAMED.fullmatch(entry), entry) for entry in entries]
    return [(match["name"], match["words"].strip()) if match else (entry, entry) for match, entry in matches]


def split(text: str, separators: str) -> list[str]:
    """Pieces between separators that stand in no brackets or quotes.

    >>> split("dense, a: obs schedule.layers={fc: 0.9, x: 0}", ",")
    ['dense', 'a: obs schedule.layers={fc: 0.9, x: 0}']
    """
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        quote = "" if letter == quote else letter if letter in "'\"" and not quote else quote
        depth += (letter in "([{") - (letter in ")]}") if not quote else 0
        if letter in separators and depth == 0 and not quote:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces if piece.strip()]


def _read_condition(name: str, words: str, config: Mapping[str, Any], line: CommandLine) -> TraceCondition:
    first, *rest = split(words, " \t\n")
    short = SHORT.fullmatch(first)
    if short:
        level = [f"pruner.sparsity={short['sparsity']}"] if short["sparsity"] else []
        rest = [f"pruner={short['pruner']}", *level, *rest]
    else:
        rest = [first, *rest]
    of_other = OTHER in rest
    own = [quote(word) for word in split_flags([word for word in rest if word != OTHER])[1]]
    for word in own:
        if group(word) not in INHERITED:
            raise UserError(
                f"conditions: {name}: {word} is no setting of a condition; write PRUNER, PRUNER@SPARSITY, pruner.*=, "
                f"schedule=, schedule.*= or {OTHER}, and the rest beside conditions="
            )
    try:
        groups, choices = _compose_groups(own, line)
        return TraceCondition(trace_settings({**config, **groups}, choices), of_other)
    except UserError as error:
        raise UserError(f"conditions: {name}: {error}") from None


def _compose_groups(own: list[str], line: CommandLine) -> tuple[dict[str, Any], dict[str, str]]:
    """The groups `pruner` and `schedule` with a condition's own words on the command line's, and what was chosen."""
    inherited = [word for word in line.overrides if group(word) in INHERITED]
    if any(key(word) == "schedule" for word in own):  # another schedule has settings of its own
        inherited = [word for word in inherited if group(word) != "schedule"]
    words = list({key(word): word for word in [*inherited, *own]}.values())  # Hydra refuses a key that is there twice
    config, choices = compose_config("eval", words, line.folders)
    settings = read_settings(config, "eval")
    return {name: settings[name] for name in INHERITED if name in settings}, choices
