"""trace -> explanations: every method on both networks, side by side. Knows the two networks only by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor, nn

from spade_cli.errors import SpadeError
from spade_cli.interpretation import (
    Dense,
    Explainable,
    Explanation,
    ask_question,
    bind_image,
    explainable,
    is_blank,
    visualize_dense,
    why_blank,
)
from spade_cli.interpretation.visualization.dense import Pictures
from spade_cli.progress import Stages, count_percents
from spade_cli.report.explanations import write_saliency, write_visualization
from spade_cli.report.overview import Pair
from spade_cli.report.run_folder import slugs
from spade_cli.report.summary import SaliencyRecord, Skipped, VisualizationRecord
from spade_cli.run.request import ImagePlan

DenseResults = dict[tuple[str, str], tuple[Any, float]]  # by network and method: what was made of it, and the seconds


class Note(NamedTuple):
    """What is to be said of a method, or of several ("lime, lrp"), on a network; "" is all of them."""

    text: str
    method: str
    network: str


@dataclass
class Explanations:
    """What a stage adds to the report: records of the summary, flags, and pairs for the overview."""

    saliency: list[SaliencyRecord] = field(default_factory=list)
    visualizations: list[VisualizationRecord] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def add_maps(self, method: str, records: list[SaliencyRecord], maps: Mapping[str, Image.Image], note: str) -> None:
        """One method's maps, by network, and what the overview says of them."""
        self.saliency += records
        self.pairs.append(Pair(method.replace("_", " "), maps.get("dense"), maps.get("trace"), note))


def explain_networks(
    methods: Mapping[str, Callable[..., Any]],
    networks: Mapping[str, Sequence[nn.Module]],
    plan: ImagePlan,
    view: Image.Image,
    folder: Path,
    stages: Stages,
    dense_results: DenseResults | None = None,
) -> Explanations:
    """Every saliency method on each network; a method that cannot explain one is skipped, with its reason.

    networks: by name, dense or trace; of several traces the map is the mean. What is in `dense_results` is not made
    again, and what is made of the dense network is put there: traces of several settings share it. Raw maps and
    pictures are written into `folder`. The overlays lie upon `view`.
    """
    result = Explanations()
    if not methods:
        return result
    notes: list[Note] = []
    reasons: list[Note] = []
    with stages.stage("saliency", total=len(methods) * len(networks)) as advance:
        rewritten = {
            name: _make_once(dense_results, name, "explainable", partial(_rewrite_networks, several, plan.x))[0]
            for name, several in networks.items()
        }
        asked = {name: [ask_question(one, plan.question) for one in several] for name, several in rewritten.items()}
        for method, function in methods.items():
            explained = {}
            for name in networks:
                try:
                    explain = getattr(function, "with_plain", function)
                    make = partial(explain, [one for one, _ in asked[name]], plan.x, asked[name][0][1])
                    explained[name] = _make_once(dense_results, name, method, make)
                except SpadeError as error:  # one method's end is not the run's
                    reasons.append(Note(str(error), method, name))
                advance(1)
            notes += _read_warnings(method, explained)
            if explained:
                result.add_maps(method, *write_saliency(folder, method, explained, view, plan.request.scale))
    for note in merge_notes(notes, methods, networks):
        result.flags.append(f"{note.method}: {note.text} ({_name_network(note.network)})")
    result.skipped += _list_skipped(merge_notes(reasons, methods, networks))
    return result


def _rewrite_networks(networks: Sequence[nn.Module], x: Tensor) -> list[Explainable]:
    return [explainable(network, x) for network in networks]


def visualize_channels(
    function: Callable[..., Tensor] | None,
    networks: Mapping[str, Sequence[nn.Module]],
    plan: ImagePlan,
    folder: Path,
    stages: Stages,
    dense_results: DenseResults | None = None,
) -> Explanations:
    """What each channel responds to most, on each network: its channels in one batch, from the same noise.

    Several networks of one name are several traces of the image: a picture climbs their mean. The dense network's
    pictures are the same for every image: they come from the cache where they were made before.
    """
    result = Explanations()
    if function is None or not plan.channels:
        return result
    own, function = plan.classifier.preprocessing, bind_image(function, plan.view)
    settings: dict[str, Any] = {"size": own.size, "mean": own.mean, "std": own.std, "seed": plan.request.seed}
    reasons: list[Note] = []
    blank: list[Note] = []
    made: dict[str, tuple[Pictures, float]] = {}  # by network, with the seconds it took
    with stages.stage("visualization", total=100 * len(networks)) as advance:
        for name, several in networks.items():
            channels = list(plan.channels.values())
            cache = plan.request.cache if name == "dense" else None
            draw = partial(visualize_dense, cache, function, several, channels, name=plan.classifier.name)
            if name != "dense":
                draw = partial(draw, dense=Dense(plan.classifier.model, plan.classifier.output))
            make = partial(draw, on_step=count_percents(advance), **settings)
            try:
                made[name] = _make_once(dense_results, name, "visualization", make)
            except SpadeError as error:
                reasons.append(Note(str(error), "visualization", name))
                continue
            for (target, channel), values in zip(plan.channels.items(), made[name][0].values, strict=True):
                if is_blank(values):
                    ask = partial(why_blank, function, several, channel, **settings)
                    why, _ = _make_once(dense_results, name, f"why {target} is blank", ask)
                    blank.append(Note(why, target, name))
        _write_visualizations(result, list(plan.channels), made, folder)
    result.skipped += _list_skipped(merge_notes(reasons, [], networks))
    for note in merge_notes(blank, [], networks):
        where = _name_network(note.network)
        result.flags.append(f"the visualization of {note.method} is blank: {note.text} ({where})")
    return result


def _write_visualizations(
    result: Explanations, targets: Sequence[str], made: Mapping[str, tuple[Pictures, float]], folder: Path
) -> None:
    """Write every network's pictures, and put their records and pairs into the result."""
    files = slugs(targets)
    pictures: dict[str, dict[str, Image.Image]] = {target: {} for target in targets}
    for name, (batch, seconds) in made.items():
        for target, values in zip(targets, batch.values, strict=True):
            each = seconds / len(targets)
            record, pictures[target][name] = write_visualization(folder, target, files[target], name, values, each)
            result.visualizations.append(replace(record, cached=batch.cached))
    for target, both in pictures.items():
        result.pairs.append(Pair(f"maximizes {target}", both.get("dense"), both.get("trace"), "feature visualization"))


def _make_once(
    dense_results: DenseResults | None, network: str, what: str, make: Callable[[], Any]
) -> tuple[Any, float]:
    """What `make` returns and the seconds it took; of the dense network from `dense_results`."""
    if dense_results is not None and (network, what) in dense_results:
        return dense_results[network, what]
    started = time.perf_counter()
    made = (make(), time.perf_counter() - started)
    if dense_results is not None and network == "dense":
        dense_results[network, what] = made
    return made


def _read_warnings(method: str, explained: Mapping[str, tuple[Explanation, float]]) -> list[Note]:
    """The method's warnings on each network, without the method's name before them."""
    return [
        Note(warning.removeprefix(f"{method}: "), method, network)
        for network, (explanation, _) in explained.items()
        for warning in explanation.warnings
    ]


def merge_notes(notes: Iterable[Note], methods: Iterable[str], networks: Iterable[str]) -> list[Note]:
    """Notes that are the same for several methods, or for all networks, become one.

    >>> merge_notes([Note("flat", "lime", "dense"), Note("flat", "lime", "trace")], ["lime", "lrp"], ["dense", "trace"])
    [Note(text='flat', method='lime', network='')]
    """
    every_network, every_method = list(networks), list(methods)
    by_method: dict[tuple[str, str], list[str]] = {}
    for text, method, network in notes:
        by_method.setdefault((text, method), []).append(network)
    by_network: dict[tuple[str, str], list[str]] = {}
    for (text, method), on in by_method.items():
        for network in [""] if on == every_network else on:
            by_network.setdefault((text, network), []).append(method)
    return [
        Note(text, "all methods" if named == every_method and len(named) > 1 else ", ".join(named), network)
        for (text, network), named in by_network.items()
    ]


def _list_skipped(reasons: Iterable[Note]) -> list[Skipped]:
    return [Skipped(f"{one.method} ({one.network})" if one.network else one.method, one.text) for one in reasons]


def _name_network(network: str) -> str:
    return {"": "on both networks", "dense": "on the dense network"}.get(network, f"on the {network}")
