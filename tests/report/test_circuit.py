"""The circuit's picture: columns from the image to the answer, edges as wide as their shares; and which are drawn."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from spade_cli.inspection.find_circuit import choose_edges, find_circuit
from spade_cli.interpretation import Channel, explainable
from spade_cli.interpretation.channel_relevance import follow_relevance
from spade_cli.report.channel_pages import Neuron
from spade_cli.report.circuit import HEAD, LABELLED, NODE, PICTURE, THICKEST, THINNEST, Circuit, Edge, draw_circuit

A, B, C, D = (Channel("early", number) for number in range(4))
LATE, OTHER = Channel("late", 7), Channel("late", 8)


def test_the_fewest_givers_that_hold_four_fifths_are_drawn_up_to_the_limit():
    feeds = {(A, LATE): 0.1, (B, LATE): 0.3, (C, LATE): 0.08, (D, LATE): 0.009, (A, OTHER): 0.02, (LATE, None): 0.9}
    # late 7 gets 0.48 of these, and 0.4 is more than four fifths of it; less than 1 % is never drawn
    assert choose_edges(feeds, 3) == [(B, LATE), (A, LATE), (A, OTHER), (LATE, None)]
    assert choose_edges({**feeds, (C, LATE): 0.16}, 9)[:3] == [(B, LATE), (C, LATE), (A, OTHER)]
    assert choose_edges({**feeds, (C, LATE): 0.09}, 9)[:3] == [(B, LATE), (A, LATE), (A, OTHER)]
    assert choose_edges({**feeds, (C, LATE): 0.11, (D, LATE): 0.1}, 9)[:3] == [(B, LATE), (C, LATE), (A, LATE)]
    assert choose_edges({**feeds, (C, LATE): 0.25}, 2)[:3] == [(B, LATE), (C, LATE), (A, OTHER)]
    assert choose_edges({(A, None): 0.9, (B, None): 0.02, (C, None): 0.009}, 1) == [(A, None), (B, None)]
    assert choose_edges({(A, LATE): -0.5, (B, LATE): 0.2}, 3) == [(B, LATE)] and choose_edges({}, 3) == []


def edge(source, to, share):
    return Edge(source, to, {"trace": share, "dense": 0.5})


def test_edges_run_from_a_nodes_right_side_to_the_next_ones_left_side():
    edges = (edge("a:1", "b:1", 0.05), edge("a:2", "b:1", 0.6), edge("a:1", None, 0.3), edge("b:1", None, 1.0))
    layers = {"a": ["a:1", "a:2"], "b": ["b:1"]}
    drawing = draw_circuit(Circuit(layers, edges, {"a": 1.0, "b": 1.0}, "lrp"))
    at = {node.name: node for node in drawing.nodes}
    assert at["a:1"].x == at["a:2"].x == 0 < at["b:1"].x < drawing.answer[0] < drawing.width
    assert abs(at["a:1"].y - at["a:2"].y) > NODE[1] and min(node.y for node in drawing.nodes) >= HEAD
    assert [curve.edge for curve in drawing.curves] == sorted(edges, key=lambda one: -one.share["trace"])
    for curve in drawing.curves:
        numbers = [float(number) for number in re.findall(r"[\d.]+", curve.path)]
        start = at[curve.edge.source]
        assert numbers[:2] == pytest.approx([start.x + NODE[0], start.y + PICTURE / 2], abs=0.1)
        left = drawing.answer[0] if curve.edge.to is None else at[curve.edge.to].x
        assert numbers[-2] == pytest.approx(left, abs=0.1)
        share = curve.edge.share["trace"]
        assert curve.width == pytest.approx(THINNEST + share * (THICKEST - THINNEST))
        assert (curve.label is not None) == (share >= LABELLED)
        if curve.label:
            assert start.x + NODE[0] < curve.label[0] < left


def test_nodes_are_ordered_so_that_edges_do_not_cross():
    layers = {"a": ["a:1", "a:2"], "b": ["b:1", "b:2"]}
    edges = (edge("a:1", "b:2", 0.5), edge("a:2", "b:1", 0.5), edge("b:1", None, 0.5), edge("b:2", None, 0.4))
    height = {node.name: node.y for node in draw_circuit(Circuit(layers, edges, {}, "lrp")).nodes}
    assert (height["a:1"] < height["a:2"]) == (height["b:2"] < height["b:1"])


class Backwards(nn.Module):
    """Registers its later layer first, as some networks do."""

    def __init__(self):
        super().__init__()
        self.late, self.early, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.late(self.early(x).relu()).relu().mean((2, 3)))


def test_columns_stand_in_the_order_in_which_layers_are_called():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 8, 8)
    layers = [name for name, module in Backwards().named_modules() if isinstance(module, nn.Conv2d)]
    neurons = [Neuron(layer, n, {}, {}, {}) for layer in layers for n in range(4)]
    network = explainable(Backwards().eval(), image)
    found = follow_relevance(network, image, 0, [Channel(one.layer, one.channel) for one in neurons])
    summary = SimpleNamespace(layers=[SimpleNamespace(name="head")], target=SimpleNamespace(index=0, against=()))
    circuit = find_circuit(SimpleNamespace(summary=summary), neurons, {"trace": found, "dense": found}, 3)
    assert layers == ["late", "early"] and list(circuit.layers) == ["early", "late"]
    at = {node.name: node.x for node in draw_circuit(circuit).nodes}
    assert {at[name] for name in circuit.layers["early"]} == {0} and min(at[one] for one in circuit.layers["late"]) > 0


def test_no_edges_leave_the_answer_alone():
    drawing = draw_circuit(Circuit({}, (), {}, "lrp"))
    assert drawing.nodes == drawing.curves == () and drawing.height > 0
