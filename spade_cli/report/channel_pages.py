"""Pages about channels: neurons.html has those that carry a prediction, diff.html those that one of two runs uses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from spade_cli.files import write_whole
from spade_cli.report import sentences
from spade_cli.report.charts import bar
from spade_cli.report.circuit import PICTURE, Circuit, Drawing, draw_circuit
from spade_cli.report.pictures import aggregate, overlay, picture, shared_top
from spade_cli.report.render import inline_picture, render
from spade_cli.report.runs import REPORT
from spade_cli.report.summary import Summary, read_summary

PAGE, RECORD = "neurons.html", "neurons.json"
SHOWN = 256  # pixels a side of each picture: there are four of them for every channel
THUMBNAIL = 160  # pixels a side of a picture in the circuit, which a screen of two pixels a point shows sharp
AROUND = 0.05  # of the score: the page says which layers so much goes around
PATCH = 128  # pixels a side of a patch of a real picture


@dataclass
class Neuron:
    """One channel of a layer in several networks, by their names."""

    layer: str
    channel: int
    share: dict[str, float]  # of what the layer's channels add to the answer, those against it left out
    rank: dict[str, int]  # among the layer's channels, 1 is the one that adds most
    where: dict[str, Tensor]  # what it adds at each place: (height, width), or a single value (1, 1)
    relevance: dict[str, float] = field(default_factory=dict)  # that passes through it, as a share of the score
    maps: dict[str, Tensor] = field(default_factory=dict)  # of that relevance: (3, H, W)
    pictures: dict[str, Tensor] = field(default_factory=dict)  # visualizations (3, H, W) in [0, 1]
    patches: dict[str, list[Tensor]] = field(default_factory=dict)  # of real pictures, (3, side, side), by network

    @property
    def name(self) -> str:
        """As `interpreter.targets` has it."""
        return f"{self.layer}:{self.channel}"


@dataclass(frozen=True)
class Overlap:
    """What two traces kept of one layer."""

    layer: str
    weights: int
    kept: dict[str, int]  # by trace
    both: int  # kept by both

    @property
    def share(self) -> float:
        """Of what either kept, the share that both kept (Jaccard), 0 to 1."""
        either = sum(self.kept.values()) - self.both
        return self.both / either if either else 1.0

    @property
    def chance(self) -> float:
        """The same for two traces that keep as many weights, chosen blindly."""
        p, q = (kept / self.weights for kept in self.kept.values())
        return p * q / (p + q - p * q) if p + q else 1.0


@dataclass(frozen=True)
class Card:
    """A channel as a page shows it; figures and pictures, as data URIs, by network."""

    name: str
    channel: int
    label: str | None  # of the class, where the channel is the target's own
    share: dict[str, float]
    rank: dict[str, int]
    has_places: bool  # whether `where` is more than a single value
    where: dict[str, str]
    relevance: dict[str, float]
    maps: dict[str, str]
    pictures: dict[str, str]
    patches: dict[str, list[str]]


@dataclass(frozen=True)
class Shown:
    """The circuit's picture with what is in it, all as the template needs it."""

    drawing: Drawing
    pictures: dict[str, list[str]]  # by channel: what it looks for, and the pixels it reads, on the trace
    relevance: dict[str, float]  # by channel, on the trace
    passed_by: dict[str, float]  # by layer that a part of the score goes around: how much goes through it


def write_neurons(
    run: Path,
    neurons: Sequence[Neuron],
    view: Image.Image,
    command: str,
    patches_of: str,
    circuit: Circuit | None = None,
    notes: Sequence[str] = (),
) -> tuple[Path, dict[str, Any]]:
    """Write `neurons.html` and `neurons.json` into the run's folder, each whole; returns the page and the record.

    notes: what a reader of the maps and of the circuit must know.
    """
    summary = read_summary(run)
    layers: dict[str, list[Card]] = {}
    for one in neurons:
        layers.setdefault(one.layer, []).append(make_card(one, dict.fromkeys(one.where, view), summary))
    page = render(
        "neurons.html",
        title=f"What carries {summary.target.words}",
        summary=summary,
        sentences=sentences,
        view=inline_picture(view, 2 * SHOWN),
        layers=dict(reversed(layers.items())),  # what is nearest to the answer first
        bar=bar,
        command=command,
        patches_of=patches_of,
        has_report=(run / REPORT).is_file(),
        circuit=_show_circuit(circuit, neurons, view) if circuit is not None and circuit.edges else None,
        has_maps=any(one.maps for one in neurons),
        side=PICTURE,
        notes=notes,
    )
    record = {
        "target": asdict(summary.target),
        "neurons": [_record_neuron(one) for one in neurons],
        "circuit": None if circuit is None else _record_circuit(circuit),
        "notes": list(notes),
    }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    write_whole(run / RECORD, lambda path: path.write_text(text + "\n", encoding="utf-8"))
    write_whole(run / PAGE, lambda path: path.write_text(page, encoding="utf-8"))
    return run / PAGE, record


def _record_neuron(one: Neuron) -> dict[str, Any]:
    record = {"layer": one.layer, "channel": one.channel, "share": one.share, "rank": one.rank}
    return {**record, "relevance": one.relevance} if one.relevance else record


def _record_circuit(circuit: Circuit) -> dict[str, Any]:
    edges = [{"from": edge.source, "to": edge.to, "share": edge.share} for edge in circuit.edges]
    return {"rule": circuit.rule, "passing": circuit.passing, "edges": edges}


def _show_circuit(circuit: Circuit, neurons: Sequence[Neuron], view: Image.Image) -> Shown:
    """The circuit's picture; a node shows what its channel looks for and the pixels it reads, on the trace."""
    drawing = draw_circuit(circuit)
    inside = {node.name for node in drawing.nodes}
    shown = [one for one in neurons if one.name in inside]
    return Shown(
        drawing,
        {
            one.name: [
                inline_picture(picture(one.pictures["trace"]), THUMBNAIL),
                inline_picture(_over_view(one.maps["trace"], view), THUMBNAIL),
            ]
            for one in shown
        },
        {one.name: one.relevance["trace"] for one in shown},
        {layer: share for layer, share in circuit.passing.items() if share < 1 - AROUND},
    )


def write_difference(
    out: Path,
    runs: Mapping[str, Summary],
    folders: Mapping[str, Path],
    views: Mapping[str, Image.Image],
    overlaps: Sequence[Overlap],
    only: Mapping[str, Sequence[Neuron]],
    command: str,
) -> Path:
    """Write `diff.html`, whole, to `out`; `runs`, `folders`, `views` and `only` are by name, A and B."""
    page = render(
        "diff.html",
        title="Two traces",
        runs=runs,
        folders=folders,
        sentences=sentences,
        views={name: inline_picture(view, 448) for name, view in views.items()},
        overlaps=overlaps,
        only={name: [make_card(one, views, runs[name]) for one in neurons] for name, neurons in only.items()},
        bar=bar,
        command=command,
    )
    write_whole(out, lambda path: path.write_text(page, encoding="utf-8"))
    return out


def make_card(neuron: Neuron, views: Mapping[str, Image.Image], summary: Summary) -> Card:
    """One channel as a page shows it; `views` by network."""
    enlarged = {name: _enlarge(where, views[name].size) for name, where in neuron.where.items()}
    top = shared_top(list(enlarged.values()))
    return Card(
        name=neuron.name,
        channel=neuron.channel,
        label=summary.target.label if is_answer(neuron, summary) else None,
        share=neuron.share,
        rank=neuron.rank,
        has_places=any(where.numel() > 1 for where in neuron.where.values()),
        where={name: inline_picture(overlay(map, top, views[name]), SHOWN) for name, map in enlarged.items()},
        relevance=neuron.relevance,
        maps={name: inline_picture(_over_view(map, views[name]), SHOWN) for name, map in neuron.maps.items()},
        pictures={name: inline_picture(picture(values), SHOWN) for name, values in neuron.pictures.items()},
        patches={
            name: [inline_picture(picture(patch), PATCH) for patch in patches]
            for name, patches in neuron.patches.items()
        },
    )


def is_answer(neuron: Neuron, summary: Summary) -> bool:
    """Whether a channel is the class's own output, which is the answer itself."""
    is_class = (neuron.layer, neuron.channel) == (summary.layers[-1].name, summary.target.index)
    return is_class and not summary.target.against


def _over_view(map: Tensor, view: Image.Image) -> Image.Image:
    """A map (3, H, W) over the view, on a scale of its own: how strong it is, its share says."""
    pixels = aggregate(map)
    return overlay(pixels, shared_top([pixels]), view)


def _enlarge(where: Tensor, size: tuple[int, int]) -> Any:
    """What speaks for the answer, at the view's size; bilinear, which cannot ring."""
    small = Image.fromarray(where.clamp(min=0).numpy().astype(np.float32))
    return np.asarray(small.resize(size, Image.Resampling.BILINEAR))
