"""Layers of the user's network -> the nodes of its rewritten copy that hold their outputs; the blocks around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from spade_cli.interpretation.contribution import keep_outputs
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.interpretation.rewrite.undo_writes import is_size
from spade_cli.networks.modes_and_seeds import ask_network

SAME = 1e-4  # of the largest value: by how much a node's value may differ from its layer's output, as rounding does


def find_layer_nodes(network: Explainable, image: Tensor, layers: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The node of each layer by its name, in the graph's order, and why other layers have none, a line each.

    image: (1, 3, H, W), normalised. layers: names of modules of the network as it was given. A node is taken only if
    its value on the image is the layer's output.
    """
    graph_module = network.model
    assert isinstance(graph_module, fx.GraphModule)
    given = network.original if network.original is not None else graph_module
    known = dict(given.named_modules())
    lines = [
        f"layer '{name}' is not in the network; spade layers lists what is" for name in layers if name not in known
    ]
    found = {name: _candidates(graph_module, name) for name in layers if name in known}
    with torch.no_grad():
        with keep_outputs(given, list(found)) as outputs:
            ask_network(given, image)
        watcher = _Watcher(graph_module, {node for nodes in found.values() for node in nodes})
        ask_network(watcher.run, image)  # with the same random numbers
    nodes: dict[str, str] = {}
    for name, candidates in found.items():
        calls = outputs[name]
        same = [node for node in candidates if len(calls) == 1 and _is_same(watcher.values[node], calls[0])]
        if not calls:
            lines.append(f"layer '{name}' is never called as a module, so its channels cannot be seen")
        elif len(calls) > 1:
            lines.append(f"layer '{name}' is called {len(calls)} times, so what passes through it has no single map")
        elif not same:
            lines.append(f"the output of layer '{name}' is not a value of the rewritten copy")
        else:
            nodes[name] = same[-1].name
    order = [node.name for node in graph_module.graph.nodes]
    return dict(sorted(nodes.items(), key=lambda item: order.index(item[1]))), lines


@dataclass(frozen=True)
class Stop:
    """A module to look into: a layer, or the block that stands for layers that a path leads around.

    shape: of its output, (1, ...); None where that is not known.
    """

    name: str
    layers: tuple[str, ...]
    shape: tuple[int, ...] | None

    @property
    def is_block(self) -> bool:
        """Whether it stands for layers within it."""
        return self.layers != (self.name,)


def widen_to_blocks(network: Explainable, image: Tensor, layers: Sequence[str]) -> list[Stop]:
    """Each layer; or, where a path from image to output leads around it, the innermost module around it that all pass.

    So a convolution of a residual block becomes the block, and a branch of an Inception or Fire module the module. A
    layer without such a module stays, and so do all where the network could not be rewritten.
    """
    nodes, by_name, stops = dict[str, str](), dict[str, fx.Node](), dict[str, list[str]]()
    if isinstance(network.model, fx.GraphModule):
        names = [name for layer in layers for name in (layer, *_list_parents(layer))]
        nodes, _ = find_layer_nodes(network, image, list(dict.fromkeys(names)))
        by_name = {node.name: node for node in network.model.graph.nodes}
    passed = {name for name, node in nodes.items() if not _leads_around(by_name[node])}
    for layer in layers:
        around = (name for name in (layer, *_list_parents(layer)) if name in passed)
        stops.setdefault(next(around, layer), []).append(layer)
    return [
        Stop(name, tuple(within), by_name[nodes[name]].meta["shape"] if name in nodes else None)
        for name, within in stops.items()
    ]


def _list_parents(layer: str) -> list[str]:
    """The modules that hold a layer, the innermost first.

    >>> _list_parents("layer4.1.conv2")
    ['layer4.1', 'layer4']
    """
    parts = layer.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _leads_around(node: fx.Node) -> bool:
    """Whether the output depends on the image on a path that does not pass a node."""
    waiting = [one for one in node.graph.nodes if one.op == "output"]
    seen = {node, *waiting}
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source.op == "placeholder":
                return True
            if source not in seen and not is_size(source):
                seen.add(source)
                waiting.append(source)
    return False


def _candidates(graph_module: fx.GraphModule, layer: str) -> list[fx.Node]:
    """The nodes that may hold a layer's output: its own calls, or the last step of what its forward does."""
    called = [node for node in graph_module.graph.nodes if node.op == "call_module" and node.target == layer]
    inside = [node for node in graph_module.graph.nodes if layer in _modules_around(node)]
    return called or inside[-1:]


def _modules_around(node: fx.Node) -> list[str]:
    """The names of the modules in whose forward a node was traced."""
    return [name for name, _ in (node.meta.get("nn_module_stack") or {}).values()]


class _Watcher(fx.Interpreter):
    """Runs a graph, and keeps the values of some of its nodes."""

    def __init__(self, graph_module: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(graph_module)
        self.wanted, self.values = wanted, dict[fx.Node, Any]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.wanted:
            self.values[n] = value
        return value


def _is_same(value: Any, output: Any) -> bool:
    if not isinstance(value, Tensor) or not isinstance(output, Tensor) or value.shape != output.shape:
        return False
    return torch.allclose(value, output, rtol=0, atol=SAME * float(output.abs().max()))
