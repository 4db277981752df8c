"""The circuit's picture: columns from the image to the answer, edges as wide as their shares; and which are drawn."""

import re

import pytest

from spade_cli.inspection.find_circuit import choose_edges
from spade_cli.interpretation import Channel
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


def test_no_edges_leave_the_answer_alone():
    drawing = draw_circuit(Circuit({}, (), {}, "lrp"))
    assert drawing.nodes == drawing.curves == () and drawing.height > 0
