"""A traced network -> one with a module for each ReLU, max pooling and sum, and its last feature map marked."""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


class Add(nn.Module):
    """The sum of two tensors as a module, so that LRP can give it a rule."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        return first + second


class ClippedReLU(nn.ReLU):
    """ReLU6 that captum takes for a ReLU: guided backpropagation looks for nn.ReLU and would pass over nn.ReLU6."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return F.relu6(input)


class MaxPool(nn.MaxPool2d):
    """Max pooling as a type of its own, so that DeepLift can be given a rule that holds where windows overlap."""


class FeatureMap(nn.Identity):
    """Marks the last spatial feature map; changes nothing."""


RELU: frozenset[Any] = frozenset({F.relu, torch.relu, "relu"})
RELU6: frozenset[Any] = frozenset({F.relu6})
ADD: frozenset[Any] = frozenset({operator.add, torch.add, "add"})
MAX_POOL: frozenset[Any] = frozenset({F.max_pool2d, torch.max_pool2d})
COMMUTING: frozenset[Any] = frozenset({operator.add, operator.mul})
POOL_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
POOL_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)
POOL_CALLS: frozenset[Any] = MAX_POOL | {F.adaptive_avg_pool2d, F.avg_pool2d, torch.mean, "mean", "amax"}
TENSOR_FIRST: frozenset[Any] = ADD | RELU | RELU6 | POOL_CALLS
FLATTEN_CALLS: frozenset[Any] = frozenset({torch.flatten, torch.reshape, "flatten", "view", "reshape"})


def is_tensor(value: Any) -> bool:
    """Whether a graph's value is one tensor; a size or a Python number is not."""
    return isinstance(value, fx.Node) and value.meta.get("shape") is not None


def shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a tensor in the graph, as it was on the image."""
    return node.meta["shape"]


def module_of(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module a node calls, or None where it calls a function."""
    return graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None


def replace_call(graph_module: fx.GraphModule, node: fx.Node, module: nn.Module, inputs: int = 1) -> None:
    """Let `node` call a new module on its first arguments; the name is the node's own, so it is unique."""
    name = f"explained_{node.name}"
    graph_module.add_submodule(name, module)
    node.op, node.target, node.args, node.kwargs = "call_module", name, node.args[:inputs], {}


def tensors_first(graph: fx.Graph) -> None:
    """Write each call with its tensors in front: f(input=x, dim=1) as f(x, dim=1), and 2 * x as x * 2."""
    for node in graph.nodes:
        for place, name in enumerate(("input", "other")):
            known = node.op == "call_module" or node.target in TENSOR_FIRST
            if known and len(node.args) == place and name in node.kwargs:
                node.args = (*node.args, node.kwargs[name])
                node.kwargs = {key: value for key, value in node.kwargs.items() if key != name}
        if node.target in COMMUTING and isinstance(node.args[0], (int, float)):  # not the sum of two tuples
            node.args = node.args[::-1]


def settings_are_plain(node: fx.Node) -> bool:
    """Whether all a call is given beside its first argument are constants; a size read from a tensor is not."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args[1:], node.kwargs), found.append)
    return bool(node.args) and isinstance(node.args[0], fx.Node) and not found


def one_module_per_call(safe: fx.GraphModule) -> None:
    """Rewrite the graph, which has no in-place operation: one module for each ReLU, max pooling and addition."""
    seen: set[str] = set()
    for node in list(safe.graph.nodes):
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        called = module_of(safe, node)
        if (made := _new_module(node, called)) is not None:
            replace_call(safe, node, made, inputs=2 if isinstance(made, Add) else 1)
        elif called is not None and node.target in seen and not list(called.parameters()):
            safe.add_submodule(name := f"explained_{node.name}", copy.deepcopy(called))
            node.target = name
        elif called is not None:
            seen.add(str(node.target))
    for node in list(safe.graph.nodes):
        called = module_of(safe, node)
        if called is not None and settings_are_plain(node) and not list(called.parameters()):
            _own_input(safe, node)
    safe.delete_all_unused_submodules()


def _new_module(node: fx.Node, called: nn.Module | None) -> nn.Module | None:
    """The module a call is to be replaced with, or None where it stays as it is."""
    function = node.target if called is None else None  # a module's target is its name, and may be "relu" or "add"
    if function in ADD and len(node.args) == 2 and all(map(is_tensor, node.args)) and not node.kwargs:
        return Add()
    if not (settings_are_plain(node) and is_tensor(node) and is_tensor(node.args[0])):
        return None
    if isinstance(called, nn.ReLU) or function in RELU:
        return nn.ReLU()
    if isinstance(called, nn.ReLU6) or function in RELU6:
        return ClippedReLU()
    if type(called) is nn.MaxPool2d:
        return MaxPool(**{key: getattr(called, key) for key in POOL_ARGUMENTS})
    if function in MAX_POOL:
        settings: dict[str, Any] = {**dict(zip(POOL_ARGUMENTS, node.args[1:], strict=False)), **node.kwargs}
        return MaxPool(**{key: settings[key] for key in POOL_ARGUMENTS if key in settings})
    return None


def _own_input(safe: fx.GraphModule, node: fx.Node) -> None:
    """Give a module an input tensor of its own.

    Captum hangs a hook on the input tensor of a ReLU or max pooling and replaces its gradient. Where other layers read
    the same tensor (the pooling branch of an Inception block) their gradient would be thrown away; where a ReLU made
    it, the ReLU's own hook sits on it, fires first, and would see the gradient that was not replaced.
    """
    source = node.all_input_nodes[0]
    if not is_tensor(source):
        return
    with safe.graph.inserting_before(node):
        own = safe.graph.call_method("clone", (source,))
    own.meta = dict(source.meta)
    node.replace_input_with(source, own)


def mark_feature_map(safe: fx.GraphModule) -> str | None:
    """Put a `FeatureMap` behind the last spatial map, and return its name.

    It is what the last pooling or the flattening to a vector reads, seen through poolings and dropouts before it:
    ResNet's layer4, the last ReLU of VGG. A map that turns into tokens (ViT's patches) is not followed by either.
    """
    for node in reversed(safe.graph.nodes):
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None or not (is_tensor(source) and is_tensor(node)) or not _is_map(source):
            continue
        if not (_calls(safe, node, POOL_MODULES, POOL_CALLS) or _flattens(safe, node)):
            continue
        while _calls(safe, source, (*POOL_MODULES, nn.Dropout, nn.Dropout2d, nn.Identity), POOL_CALLS | {"clone"}):
            source = source.all_input_nodes[0]
        if source.op == "placeholder":
            return None  # the image itself
        safe.add_submodule("feature_map", FeatureMap())
        with safe.graph.inserting_after(source):
            mark = safe.graph.call_module("feature_map")
        source.replace_all_uses_with(mark)
        mark.args, mark.meta = (source,), dict(source.meta)
        return "feature_map"
    return None


def _is_map(node: fx.Node) -> bool:
    """Whether a tensor is (1, C, h, w) with more than one position."""
    dims = shape(node)
    return len(dims) == 4 and dims[2] * dims[3] > 1


def _calls(safe: fx.GraphModule, node: fx.Node, modules: tuple[type, ...], targets: frozenset[Any] | set[Any]) -> bool:
    """Whether a node calls one of these kinds of module or one of these functions."""
    called: Callable[..., Any] | None = module_of(safe, node)
    return isinstance(called, modules) or (called is None and node.target in targets)


def _flattens(safe: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes a vector (1, features) of its input."""
    return _calls(safe, node, (nn.Flatten,), FLATTEN_CALLS) and len(shape(node)) == 2
