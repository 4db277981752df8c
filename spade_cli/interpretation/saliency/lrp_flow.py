"""A rewritten graph -> which values depend on the image, which only weigh others, and which get relevance."""

import operator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from spade_cli.interpretation.rewrite.rewrite_graph import module_of
from spade_cli.interpretation.rewrite.undo_writes import is_size

GATE_MODULES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softmax2d)
GATE_CALLS: frozenset[Any] = frozenset(
    {F.softmax, torch.softmax, "softmax", F.sigmoid, torch.sigmoid, "sigmoid", F.hardsigmoid}
    | {torch.norm, "norm", torch.linalg.vector_norm}  # ConvNeXt V2 divides by them
)
PRODUCTS: frozenset[Any] = frozenset(
    {operator.mul, torch.mul, "mul", operator.matmul, torch.matmul, "matmul", torch.bmm, "bmm", torch.einsum}
    | {operator.truediv, torch.div, "div"}
)
ATTENTION: frozenset[Any] = frozenset({F.scaled_dot_product_attention})


@dataclass(frozen=True)
class Flow:
    """How the image flows through a graph, as sets of nodes.

    signal: values computed from the image; all others are constants.
    weights: signals that come from a softmax, a sigmoid or a norm and go into products only (attention,
    squeeze-and-excitation, response normalisation).
    relevant: signals that reach the output without becoming weights.
    """

    signal: set[fx.Node]
    weights: set[fx.Node]
    relevant: set[fx.Node]


def find_flow(graph_module: fx.GraphModule) -> Flow:
    """Follow the image through a graph."""
    nodes = list(graph_module.graph.nodes)
    signal: set[fx.Node] = set()
    for node in nodes:
        if node.op == "placeholder" or (signal.intersection(node.all_input_nodes) and not is_size(node)):
            signal.add(node)
    weights = _weights(graph_module, nodes, signal)
    relevant: set[fx.Node] = set()
    for node in reversed(nodes):
        if node.op == "output" or any(
            node in _relevant_inputs(user, weights) for user in node.users if user in relevant
        ):
            relevant.add(node)
    return Flow(signal, weights, relevant & signal)


def gates(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node calls a softmax, a sigmoid or a norm."""
    return isinstance(module_of(graph_module, node), GATE_MODULES) or function_of(node) in GATE_CALLS


def function_of(node: fx.Node) -> Any:
    """The function or the name of the method that a node calls; None where it calls a module."""
    return node.target if node.op in ("call_function", "call_method") else None


def _weights(graph_module: fx.GraphModule, nodes: list[fx.Node], signal: set[fx.Node]) -> set[fx.Node]:
    """What comes from softmax, sigmoid and norm alone, and is not used as a signal itself."""
    weights: set[fx.Node] = set()
    for node in nodes:
        inputs = signal.intersection(node.all_input_nodes)
        if node in signal and node.op != "output" and (gates(graph_module, node) or (inputs and inputs <= weights)):
            weights.add(node)
    for node in reversed(nodes):  # a sigmoid between two layers is an activation, and no weight
        if node in weights and any(user not in weights and function_of(user) not in PRODUCTS for user in node.users):
            weights.discard(node)
    return weights


def _relevant_inputs(node: fx.Node, weights: set[fx.Node]) -> list[fx.Node]:
    """The inputs to which a node with relevance passes it."""
    if function_of(node) in ATTENTION:
        return [value for value in node.args[2:3] if isinstance(value, fx.Node)]
    inputs = list(node.all_input_nodes)
    signals = [source for source in inputs if source not in weights]
    return signals if function_of(node) in PRODUCTS and signals else inputs
