"""`conditions=[...]` -> conditions by name: each is what one would type to `spade run`, in short or in full."""

import re
from collections.abc import Mapping
from typing import Any

from spade_cli.cli.config.check_values import whole
from spade_cli.cli.config.compose import CommandLine, compose_config, read_settings
from spade_cli.cli.config.settings import MAX_TRACES, smoothing_settings, trace_settings
from spade_cli.cli.config.typed_words import group, key, quote, split_flags
from spade_cli.errors import UserError
from spade_cli.evaluation.conditions import DENSE, SPARSE_FC, DenseCondition, Smoothing, TraceCondition
from spade_cli.run.trace_settings import TraceSettings

# A name comes before any word of Hydra's, which has a "=".
NAMED = re.compile(r"(?P<name>[\w][\w .@-]*):\s+(?P<words>.+)", re.DOTALL)
SHORT = re.compile(r"(?P<pruner>\w+)(?:@(?P<sparsity>[\d.]+))?")
QUOTED = re.compile(r"""^(['"])((?:(?!\1).)*)\1$""", re.DOTALL)
OTHER = "image=other"
INHERITED = ("pruner", "schedule")  # the groups of the command line that a condition starts from
# How a condition's maps are made: over how many traces, and noisy copies, they are averaged.
TRACES, SMOOTHING = "interpreter.traces", ("interpreter.smoothing.samples", "interpreter.smoothing.noise")
OF_MAPS = (TRACES, *SMOOTHING)


def read_conditions(config: Mapping[str, Any], line: CommandLine) -> dict[str, TraceCondition | DenseCondition | None]:
    """Conditions by name, dense and sparse_fc as None; `line` is what the rest of the command line says.

    Conditions that differ in their maps alone share their settings.
    """
    found: dict[str, TraceCondition | DenseCondition | None] = {}
    known: dict[tuple[str, ...], TraceSettings] = {}
    for name, words in _list_conditions(config.get("conditions")):
        if name in found:
            raise UserError(f"conditions: {name} is there twice; give one of them another name: NAME: {words}")
        if name != words and {name, words} & {DENSE, SPARSE_FC}:
            raise UserError(f"conditions: {name}: {words}: {DENSE} and {SPARSE_FC} keep their own names; take another")
        found[name] = None if words in (DENSE, SPARSE_FC) else _read_condition(name, words, config, line, known)
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


def _read_condition(
    name: str, words: str, config: Mapping[str, Any], line: CommandLine, known: dict[tuple[str, ...], TraceSettings]
) -> TraceCondition | DenseCondition:
    """One condition; `known` are the settings of those before it, by their words without those on maps."""
    first, *rest = split(words, " \t\n")
    short = SHORT.fullmatch(first)
    if short and first != DENSE:
        level = [f"pruner.sparsity={short['sparsity']}"] if short["sparsity"] else []
        rest = [f"pruner={short['pruner']}", *level, *rest]
    elif first != DENSE:
        rest = [first, *rest]
    of_other = OTHER in rest
    own = [quote(word) for word in split_flags([word for word in rest if word != OTHER])[1]]
    of_maps = [word for word in own if key(word) in OF_MAPS]
    own = [word for word in own if word not in of_maps]
    _refuse_others(name, first, own, of_maps, of_other)
    try:
        traces, smoothing = _read_maps(of_maps, config, line)
        if first == DENSE:
            return DenseCondition(smoothing)
        single = traces == 1  # the trace that the search chooses, whether it hands on others or not
        shared = () if single or TRACES not in map(key, of_maps) else (f"{TRACES}={traces}",)
        if (*own, *shared) not in known:
            groups, choices = _compose_groups(own, line)
            several = {} if single else {"traces": traces}
            interpreter = {**config.get("interpreter", {}), **several}
            known[*own, *shared] = trace_settings({**config, **groups, "interpreter": interpreter}, choices)
        return TraceCondition(known[*own, *shared], of_other, single, smoothing)
    except UserError as error:
        raise UserError(f"conditions: {name}: {error}") from None


def _refuse_others(name: str, first: str, own: list[str], of_maps: list[str], of_other: bool) -> None:
    """Raises UserError for words that no condition takes."""
    if first == DENSE and (own or of_other or TRACES in map(key, of_maps)):
        raise UserError(f"conditions: {name}: {DENSE} takes no other words than {' and '.join(SMOOTHING)}")
    for word in own:
        if group(word) not in INHERITED:
            raise UserError(
                f"conditions: {name}: {word} is no setting of a condition; write PRUNER, PRUNER@SPARSITY, pruner.*=, "
                f"schedule=, schedule.*=, {TRACES}=, {SMOOTHING[0]}=, {SMOOTHING[1]}= or {OTHER}, and the rest beside "
                "conditions="
            )


def _read_maps(of_maps: list[str], config: Mapping[str, Any], line: CommandLine) -> tuple[int, Smoothing]:
    """Over how many traces maps are averaged, the condition's own word or the command line's; its own smoothing."""
    composed, _ = compose_config("eval", list({key(word): word for word in of_maps}.values()), line.folders)
    said, keys = read_settings(composed, "eval")["interpreter"], [key(word) for word in of_maps]
    several = said if TRACES in keys else config.get("interpreter", {})
    samples, noise = smoothing_settings(said)
    smoothing = Smoothing(samples if SMOOTHING[0] in keys else None, noise if SMOOTHING[1] in keys else None)
    return whole(TRACES, several.get("traces", 1), 1, MAX_TRACES), smoothing


def _compose_groups(own: list[str], line: CommandLine) -> tuple[dict[str, Any], dict[str, str]]:
    """The groups `pruner` and `schedule` with a condition's own words on the command line's, and what was chosen."""
    inherited = [word for word in line.overrides if group(word) in INHERITED]
    if any(key(word) == "schedule" for word in own):  # another schedule has settings of its own
        inherited = [word for word in inherited if group(word) != "schedule"]
    words = list({key(word): word for word in [*inherited, *own]}.values())  # Hydra refuses a key that is there twice
    config, choices = compose_config("eval", words, line.folders)
    settings = read_settings(config, "eval")
    return {name: settings[name] for name in INHERITED if name in settings}, choices
