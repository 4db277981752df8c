"""The relevance that passes through a run's channels, on both networks, and the circuit that they make on its trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from spade_cli.inspection.reopen import OpenRun
from spade_cli.interpretation import CannotExplain, Channel, ask_question, explainable
from spade_cli.interpretation.channel_relevance import ChannelRelevance, follow_relevance
from spade_cli.report.channel_pages import Neuron, is_answer
from spade_cli.report.circuit import Circuit, Edge

LEAST = 0.01  # of what a channel carries: less is not drawn
MOST = 0.8  # of what the channels shown give to one: the largest edges that hold it are drawn


def add_relevance(
    run: OpenRun, neurons: Sequence[Neuron], on_network: Callable[[int], object]
) -> tuple[dict[str, ChannelRelevance], list[str]]:
    """Put into every neuron what passes through it and the map of that; returns all that was found, by network.

    Beside it, lines for the reader: what could not be looked into, and whose sums are wrong. on_network: called with 1
    after each network.
    """
    found, lines = {}, dict[str, list[str]]()
    for name, network in run.networks.items():
        try:
            asked, target = ask_question(explainable(network, run.x), run.question)
            found[name] = follow_relevance(asked, run.x, target, [Channel(one.layer, one.channel) for one in neurons])
            warnings = found[name].warnings
        except CannotExplain as error:
            warnings = (f"no maps of single channels: {error}",)
        for line in warnings:
            lines.setdefault(line, []).append(name)
        for one in neurons:
            channel = Channel(one.layer, one.channel)
            if name in found and channel in found[name].maps:
                one.relevance[name], one.maps[name] = found[name].share[channel], found[name].maps[channel]
        on_network(1)
    return found, [f"{' and '.join(names)}: {line}" for line, names in lines.items()]


def find_circuit(
    run: OpenRun, neurons: Sequence[Neuron], found: Mapping[str, ChannelRelevance], limit: int
) -> Circuit | None:
    """The edges that carry most on the trace, at most `limit` into each channel; None where the trace has no relevance.

    The class's own channel in the last layer is the answer, and no node of its own.
    """
    if "trace" not in found:
        return None
    own = {Channel(one.layer, one.channel) for one in neurons if is_answer(one, run.summary)}
    feeds = {name: _end_at_answer(one.feeds, own) for name, one in found.items()}
    edges = tuple(
        Edge(
            str(source),
            None if to is None else str(to),
            {name: one.get((source, to), 0.0) for name, one in feeds.items()},
        )
        for source, to in choose_edges(feeds["trace"], limit)
    )
    touched = {name for edge in edges for name in (edge.source, edge.to)}
    passing = found["trace"].passing  # in the order of the graph: modules may be registered in another
    named = {layer: [one.name for one in neurons if one.layer == layer and one.name in touched] for layer in passing}
    layers = {layer: names for layer, names in named.items() if names}
    return Circuit(layers, edges, {layer: passing[layer] for layer in layers}, found["trace"].rule)


def _end_at_answer(
    feeds: Mapping[tuple[Channel, Channel | None], float], own: set[Channel]
) -> dict[tuple[Channel, Channel | None], float]:
    """What feeds the class's own channel feeds the answer."""
    return {(source, None if to in own else to): share for (source, to), share in feeds.items() if source not in own}


def choose_edges(
    feeds: Mapping[tuple[Channel, Channel | None], float], limit: int
) -> list[tuple[Channel, Channel | None]]:
    """For each receiver the fewest givers that hold MOST of what all give it in favour, the largest first.

    Of the answer (None) it is all of them: a channel without an edge would seem to say nothing to it.
    """
    chosen: list[tuple[Channel, Channel | None]] = []
    for receiver in dict.fromkeys(to for _, to in feeds):
        shares = {source: share for (source, to), share in feeds.items() if to == receiver and share >= LEAST}
        held, total = 0.0, sum(shares.values())
        ranked = sorted(shares, key=lambda one: -shares[one])
        for source in ranked if receiver is None else ranked[:limit]:
            if receiver is not None and held >= MOST * total:
                break
            held += shares[source]
            chosen.append((source, receiver))
    return chosen
