"""trace -> explanations: every method on both networks, side by side. Knows the two networks only by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from spade_cli.errors import SpadeError
from spade_cli.interpretation import explainable, is_blank, why_blank
from spade_cli.progress import Stages
from spade_cli.report.explanations import write_saliency, write_visualization
from spade_cli.report.overview import Pair
from spade_cli.report.run_folder import slugs
from spade_cli.run.request import Question

Said = list[tuple[str, str, str]]  # what was said, of which method, on which network
Known = dict[tuple[str, str], Any]  # what was made of the dense network before, by method, and the seconds it took


@dataclass
class Result:
    """What a stage adds to the report: entries of summary.json and pairs for the overview."""

    saliency: list[dict[str, Any]] = field(default_factory=list)
    visualizations: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)


def explain(
    methods: Mapping[str, Callable[..., Any]],
    networks: Mapping[str, nn.Module],
    question: Question,
    photograph: Image.Image,
    folder: Path,
    stages: Stages,
    known: Known | None = None,
) -> Result:
    """Every saliency method on every network; where a method cannot explain one it is skipped with its reason.

    What is `known` of the dense network is not made again, and what is made of it is put there: several traces of one
    image share it. Raw maps and pictures are written into `folder`, the overlays upon `photograph`, the network's view
    of the image.
    """
    result = Result()
    if not methods:
        return result
    with stages.stage("saliency", total=len(methods) * len(networks)) as advance:
        safe = {
            name: _once(known, name, "explainable", partial(explainable, network, question.x))[0]
            for name, network in networks.items()
        }
        notes: Said = []
        reasons: Said = []
        for method, function in methods.items():
            explained = {}
            for name in networks:
                try:
                    make = partial(function, safe[name], question.x, question.target)
                    explained[name] = _once(known, name, method, make)
                    notes += [(one.removeprefix(f"{method}: "), method, name) for one in explained[name][0].warnings]
                except SpadeError as error:  # one method's end is not the run's
                    reasons.append((str(error), method, name))
                advance(1)
            if explained:
                records, overlays, note = write_saliency(folder, method, explained, photograph)
                result.saliency += records
                title = method.replace("_", " ")
                result.pairs.append(Pair(title, overlays.get("dense"), overlays.get("trace"), note))
    for why, who, where in _said_once(notes, methods, networks):
        result.flags.append(f"{who}: {why} ({_on(where)})")
    result.skipped += _skipped(_said_once(reasons, methods, networks))
    return result


def _once(known: Known | None, network: str, what: str, make: Callable[[], Any]) -> tuple[Any, float]:
    """What `make` returns and the seconds it took; of the dense network from what is known."""
    if known is not None and (network, what) in known:
        found: tuple[Any, float] = known[network, what]
        return found
    started = time.perf_counter()
    made = (make(), time.perf_counter() - started)
    if known is not None and network == "dense":
        known[network, what] = made
    return made


def _said_once(said: Said, methods: Iterable[str], networks: Iterable[str]) -> list[tuple[str, str, str]]:
    """What was said of several methods, or of both networks, in one line: (text, which methods, network or "" for all).

    >>> _said_once([("flat", "lime", "dense"), ("flat", "lime", "trace")], ["lime", "lrp"], ["dense", "trace"])
    [('flat', 'lime', '')]
    """
    whole, everyone = list(networks), list(methods)
    where: dict[tuple[str, str], list[str]] = {}
    for text, method, network in said:
        where.setdefault((text, method), []).append(network)
    who: dict[tuple[str, str], list[str]] = {}
    for (text, method), found in where.items():
        for network in [""] if found == whole else found:
            who.setdefault((text, network), []).append(method)
    return [
        (text, "all methods" if found == everyone and len(found) > 1 else ", ".join(found), network)
        for (text, network), found in who.items()
    ]


def _skipped(reasons: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [{"what": f"{who} ({where})" if where else who, "why": why} for why, who, where in reasons]


def _on(network: str) -> str:
    return f"on the {network}" if network else "on both networks"


def visualize(
    function: Callable[..., Tensor] | None,
    networks: Mapping[str, nn.Module],
    question: Question,
    folder: Path,
    stages: Stages,
    known: Known | None = None,
) -> Result:
    """What each channel responds to most, on each network: its channels in one batch, from the same noise."""
    result = Result()
    if function is None or not question.channels:
        return result
    pictures: dict[str, dict[str, Image.Image]] = {target: {} for target in question.channels}
    own, files = question.classifier.preprocessing, slugs(question.channels)
    settings: dict[str, Any] = {"size": own.size, "mean": own.mean, "std": own.std, "seed": question.request.seed}
    channels = list(question.channels.values())
    reasons: Said = []
    blank: Said = []
    with stages.stage("visualization", total=100 * len(networks)) as advance:
        for name, network in networks.items():
            make = partial(function, network, channels, on_step=_percent(advance), **settings)
            try:
                values, took = _once(known, name, "visualization", make)  # (targets, 3, size, size)
            except SpadeError as error:
                reasons.append((str(error), "visualization", name))
                continue
            seconds = took / len(values)
            for target, channel, one in zip(pictures, channels, values, strict=True):
                record, pictures[target][name] = write_visualization(folder, target, files[target], name, one, seconds)
                result.visualizations.append(record)
                if is_blank(one):
                    ask = partial(why_blank, network, channel, **settings)
                    why, _ = _once(known, name, f"why {target} is blank", ask)
                    blank.append((why, target, name))
    result.skipped += _skipped(_said_once(reasons, [], networks))
    for why, who, where in _said_once(blank, [], networks):
        result.flags.append(f"the visualization of {who} is blank: {why} ({_on(where)})")
    for target, both in pictures.items():
        result.pairs.append(Pair(f"maximizes {target}", both.get("dense"), both.get("trace"), "feature visualization"))
    return result


def _percent(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Turn (step, steps) into whole percents: the bar's total is settled before the number of steps is known."""
    shown = 0

    def on_step(step: int, steps: int) -> None:
        nonlocal shown
        percent = 100 * step // steps
        advance(percent - shown)
        shown = percent

    return on_step
