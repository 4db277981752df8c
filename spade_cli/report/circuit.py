"""Which channels feed which, and the graph of it: where its columns, nodes and edges lie in the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PICTURE, CAPTION = 76, 19  # sides of a node's two pictures, and the line below them
NODE = 2 * PICTURE + 2, PICTURE + CAPTION
APART = 96, 20  # between columns, between nodes
HEAD = 30  # for the names of the layers
ANSWER = 132  # width of the answer's node
THICKEST, THINNEST = 15.0, 1.0  # an edge of all that its channel carries, and of next to nothing
LABELLED = 0.1  # share from which an edge has its figure on it; thinner ones say it when pointed at
LONGEST = 22  # characters of a layer's name above its column
WRITTEN = 0.68  # of an edge's way: where its figure stands; in the middle, figures of crossing edges would meet


@dataclass(frozen=True)
class Edge:
    """One channel that feeds a later one, or the answer.

    share: by network, of what passes the later channel (of the score): the part that comes straight from the first.
    """

    source: str  # as `Neuron.name`
    to: str | None  # None: the answer
    share: dict[str, float]


@dataclass(frozen=True)
class Circuit:
    """Channels and the edges between them that carry most, on the trace.

    layers: channels' names by layer, the earliest layer first; channels that no edge touches are left out.
    passing: by layer, the share of the score that passes through all of its channels.
    rule: by which relevance went backwards, "lrp" or "gradient".
    """

    layers: dict[str, list[str]]
    edges: tuple[Edge, ...]
    passing: dict[str, float]
    rule: str


@dataclass(frozen=True)
class Node:
    """A channel in the picture: its left upper corner."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Curve:
    """An edge in the picture."""

    edge: Edge
    path: str  # of SVG
    width: float
    label: tuple[float, float] | None  # where its figure stands, if it has one


@dataclass(frozen=True)
class Drawing:
    """All that the picture shows, in pixels."""

    width: float
    height: float
    heads: tuple[tuple[str, str, float], ...]  # layer, its name shortened, middle of its column
    nodes: tuple[Node, ...]
    curves: tuple[Curve, ...]
    answer: tuple[float, float, float, float]  # x, y, width, height


def draw_circuit(circuit: Circuit) -> Drawing:
    """Columns are layers, the earliest on the left, the answer on the right; edges go to the right."""
    orders = _order_nodes(circuit)
    most = max(map(len, orders.values()), default=1)
    inner = most * NODE[1] + (most - 1) * APART[1]
    nodes, heads = dict[str, Node](), list[tuple[str, str, float]]()
    for column, (layer, names) in enumerate(orders.items()):
        x = column * (NODE[0] + APART[0])
        top = HEAD + (inner - len(names) * NODE[1] - (len(names) - 1) * APART[1]) / 2
        heads.append((layer, shorten_layer_name(layer), x + NODE[0] / 2))
        nodes |= {name: Node(name, x, top + place * (NODE[1] + APART[1])) for place, name in enumerate(names)}
    x = len(orders) * (NODE[0] + APART[0])
    answer = (x, HEAD + (inner - NODE[1]) / 2, ANSWER, NODE[1])
    curves = tuple(_curve(edge, nodes, answer) for edge in sorted(circuit.edges, key=lambda edge: -_on_trace(edge)))
    return Drawing(x + ANSWER + 2, HEAD + inner, tuple(heads), tuple(nodes.values()), curves, answer)


def shorten_layer_name(layer: str) -> str:
    """A layer's name, its beginning cut off where it is too long for a column.

    >>> shorten_layer_name("stages.3.blocks.2.mlp.pwconv1")
    '…3.blocks.2.mlp.pwconv1'
    """
    return layer if len(layer) <= LONGEST else f"…{layer[1 - LONGEST :]}"


def _on_trace(edge: Edge) -> float:
    return edge.share["trace"]


def _order_nodes(circuit: Circuit) -> dict[str, list[str]]:
    """Every column's channels so that few edges cross: each as high as those that it feeds, on average."""
    height: dict[str | None, float] = {None: 0.5}
    orders = {}
    for layer, names in reversed(circuit.layers.items()):
        means = {name: _mean_height(name, circuit.edges, height) for name in names}
        orders[layer] = sorted(names, key=lambda name: means[name])
        height |= {name: (place + 0.5) / len(names) for place, name in enumerate(orders[layer])}
    return dict(reversed(orders.items()))


def _mean_height(name: str, edges: Sequence[Edge], height: Mapping[str | None, float]) -> float:
    fed = [(_on_trace(edge), height[edge.to]) for edge in edges if edge.source == name]
    return sum(share * at for share, at in fed) / sum(share for share, _ in fed) if fed else 1.0


def _curve(edge: Edge, nodes: Mapping[str, Node], answer: tuple[float, float, float, float]) -> Curve:
    """A cubic curve that leaves and arrives level, from the right of a node to the left of another."""
    start, end = nodes[edge.source], None if edge.to is None else nodes[edge.to]
    x0, y0 = start.x + NODE[0], start.y + PICTURE / 2
    x1, y1 = (answer[0], answer[1] + answer[3] / 2) if end is None else (end.x, end.y + PICTURE / 2)
    bend = (x1 - x0) / 2
    path = f"M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    t, share = WRITTEN, _on_trace(edge)
    across = 3 * (1 - t) ** 2 * t * bend + 3 * (1 - t) * t**2 * (x1 - x0 - bend) + t**3 * (x1 - x0)
    label = (x0 + across, y0 + (y1 - y0) * (3 * t**2 - 2 * t**3)) if share >= LABELLED else None
    return Curve(edge, path, THINNEST + min(1.0, share) * (THICKEST - THINNEST), label)
