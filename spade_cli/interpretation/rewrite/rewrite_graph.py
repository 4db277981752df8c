"""A traced network -> one with a module for each ReLU, activation, normalisation and sum."""

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


class Add(nn.Module):
    """The sum of two tensors as a module, so that LRP can give it a rule."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        return first + second


class ClippedReLU(nn.ReLU):
    """ReLU6 as a kind of nn.ReLU: captum's guided backpropagation ignores nn.ReLU6."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return F.relu6(input)


class Multihead(nn.Module):
    """nn.MultiheadAttention in parts that can have rules: three linear maps, attention, and one more linear map."""

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        weights, bias = layer.in_proj_weight.chunk(3), layer.in_proj_bias
        biases: tuple[Tensor | None, ...] = (None, None, None) if bias is None else bias.chunk(3)
        self.heads = layer.num_heads
        self.parts = nn.ModuleList(map(make_linear, weights, biases))
        self.out = make_linear(layer.out_proj.weight, layer.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        maps = [part(x) for part, x in zip(self.parts, (query, key, value), strict=True)]  # (N, T, C) each
        split = [x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in maps]  # (N, heads, T, C / heads)
        attention = F.scaled_dot_product_attention(*split)
        return self.out(attention.transpose(1, 2).flatten(2)), None  # (N, T, C)


def make_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with these weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def is_plain_attention(layer: nn.Module | None, node: fx.Node) -> bool:
    """Whether a call is attention without masks, of batches, which `Multihead` can replace."""
    if not isinstance(layer, nn.MultiheadAttention) or len(node.args) != 3:
        return False
    masks = ("key_padding_mask", "attn_mask", "is_causal")
    same = layer._qkv_same_embed_dim and layer.batch_first and layer.bias_k is None and not layer.add_zero_attn
    return same and not any(node.kwargs.get(name) for name in masks) and all(map(is_tensor, node.args))


class FeatureMap(nn.Identity):
    """Marks a feature map (N, C, h, w); changes nothing."""


class ArrangedMap(nn.Module):
    """Marks a feature map of another arrangement: `map` sees it as (N, C, h, w), the layers behind as it was.

    arrangement: "channels last" for (N, h, w, C), or (before, h, w) for tokens (N, before + h w, C).
    """

    def __init__(self, arrangement: str | tuple[int, int, int]) -> None:
        super().__init__()
        self.arrangement, self.map = arrangement, FeatureMap()

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if isinstance(self.arrangement, str):
            channels_last: Tensor = self.map(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            return channels_last
        before, height, width = self.arrangement
        grid = input[:, before:].transpose(1, 2).unflatten(2, (height, width))  # (N, C, h, w)
        tokens = self.map(grid).flatten(2).transpose(1, 2)  # (N, h w, C)
        return torch.cat([input[:, :before], tokens], 1)


# Elementwise functions, and the modules that take the same settings
ACTIVATIONS: dict[Any, type[nn.Module]] = {
    F.gelu: nn.GELU, F.silu: nn.SiLU, F.hardswish: nn.Hardswish, F.mish: nn.Mish, F.leaky_relu: nn.LeakyReLU,
    F.elu: nn.ELU, F.celu: nn.CELU, F.selu: nn.SELU, F.hardtanh: nn.Hardtanh, F.softplus: nn.Softplus,
    F.sigmoid: nn.Sigmoid, torch.sigmoid: nn.Sigmoid, "sigmoid": nn.Sigmoid, F.hardsigmoid: nn.Hardsigmoid,
    F.tanh: nn.Tanh, torch.tanh: nn.Tanh, "tanh": nn.Tanh,
}  # fmt: skip
RELU: frozenset[Any] = frozenset({F.relu, torch.relu, "relu"})
RELU6: frozenset[Any] = frozenset({F.relu6})
ADD: frozenset[Any] = frozenset({operator.add, torch.add, "add"})
MAX_POOL: frozenset[Any] = frozenset({F.max_pool2d, torch.max_pool2d, F.adaptive_max_pool2d, torch.amax, "amax"})
COMMUTING: frozenset[Any] = frozenset({operator.add, operator.mul})
POOL_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)
POOL_CALLS: frozenset[Any] = MAX_POOL | {F.adaptive_avg_pool2d, F.avg_pool2d, torch.mean, "mean"}
TENSOR_FIRST: frozenset[Any] = ADD | RELU | RELU6 | POOL_CALLS
FLATTEN_CALLS: frozenset[Any] = frozenset({torch.flatten, torch.reshape, "flatten", "view", "reshape"})


def is_tensor(value: Any) -> bool:
    """Whether a value of a graph is one tensor; a size or a Python number is not."""
    return isinstance(value, fx.Node) and value.meta.get("shape") is not None


def shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a tensor in the graph, as it was on the image."""
    dims: tuple[int, ...] = node.meta["shape"]
    return dims


def module_of(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module a node calls, or None where it calls a function."""
    return graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None


def replace_call(graph_module: fx.GraphModule, node: fx.Node, module: nn.Module, inputs: int | None = 1) -> None:
    """Let a node call a new module on its first arguments (None: on all); the module is named after the node."""
    name = f"explained_{node.name}"
    graph_module.add_submodule(name, module)
    node.op, node.target = "call_module", name
    if inputs is not None:
        node.args, node.kwargs = node.args[:inputs], {}


def put_tensors_first(graph: fx.Graph) -> None:
    """Write each call with its tensors first: f(input=x, dim=1) as f(x, dim=1), and 2 * x as x * 2."""
    for node in graph.nodes:
        for place, name in enumerate(("input", "other")):
            known = node.op == "call_module" or node.target in TENSOR_FIRST
            if known and len(node.args) == place and name in node.kwargs:
                node.args = (*node.args, node.kwargs[name])
                node.kwargs = {key: value for key, value in node.kwargs.items() if key != name}
        if node.target in COMMUTING and isinstance(node.args[0], (int, float)):  # not the sum of two tuples
            node.args = node.args[::-1]


def has_constant_settings(node: fx.Node) -> bool:
    """Whether all arguments of a call but the first are constants; a size that is read from a tensor is none."""
    nodes: list[fx.Node] = []
    fx.node.map_arg((node.args[1:], node.kwargs), nodes.append)
    return bool(node.args) and isinstance(node.args[0], fx.Node) and not nodes


def give_calls_modules(safe: fx.GraphModule) -> None:
    """Rewrite the graph, which has no in-place operation: one module for each ReLU and addition."""
    seen: set[str] = set()
    for node in list(safe.graph.nodes):
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        called = module_of(safe, node)
        if (module := _new_module(safe, node, called)) is not None:
            replace_call(safe, node, module, inputs={Add: 2, Multihead: 3}.get(type(module), 1))
        elif called is not None and node.target in seen and not list(called.parameters()):
            safe.add_submodule(name := f"explained_{node.name}", copy.deepcopy(called))
            node.target = name
        elif called is not None:
            seen.add(str(node.target))
    for node in list(safe.graph.nodes):
        called = module_of(safe, node)
        if called is not None and has_constant_settings(node) and not list(called.parameters()):
            _give_own_input(safe, node)
    safe.graph.eliminate_dead_code()
    safe.delete_all_unused_submodules()


def _new_module(safe: fx.GraphModule, node: fx.Node, called: nn.Module | None) -> nn.Module | None:
    """The module that replaces a call, or None where the call stays as it is."""
    function = node.target if called is None else None  # a module's target is its name, and may be "relu" or "add"
    if function is F.batch_norm:
        return _batch_norm(safe, node)
    if function in ADD and len(node.args) == 2 and all(map(is_tensor, node.args)) and not node.kwargs:
        return Add()
    if is_plain_attention(called, node):
        return Multihead(called)  # type: ignore[arg-type]
    if not (has_constant_settings(node) and is_tensor(node) and is_tensor(node.args[0])):
        return None
    if isinstance(called, nn.ReLU) or function in RELU:
        return nn.ReLU()
    if isinstance(called, nn.ReLU6) or function in RELU6:
        return ClippedReLU()
    if function in ACTIVATIONS:
        plain = {key: value for key, value in node.kwargs.items() if key != "inplace"}
        return ACTIVATIONS[function](*(value for value in node.args[1:] if not isinstance(value, bool)), **plain)
    return None


def _batch_norm(safe: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """F.batch_norm as a module: the call comes from a module whose forward torch.fx traced (timm's)."""
    keys = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given: dict[str, Any] = {"weight": None, "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5}
    given |= {**dict(zip(keys, node.args, strict=False)), **dict(node.kwargs)}
    held = {key: given.pop(key) for key in keys[1:5]}
    known = all(value is None or (isinstance(value, fx.Node) and value.op == "get_attr") for value in held.values())
    if not known or given["training"] or held["running_mean"] is None or len(shape(node)) != 4:
        return None
    values = {key: None if value is None else _attribute(safe, value) for key, value in held.items()}
    norm = nn.BatchNorm2d(shape(node)[1], eps=given["eps"], affine=values["weight"] is not None)
    for key, value in values.items():
        if value is not None:
            getattr(norm, key).data = value.detach()
    return norm.eval().requires_grad_(False)


def _attribute(safe: fx.GraphModule, node: fx.Node) -> Tensor:
    """The parameter or buffer that a node reads."""
    holder, _, name = str(node.target).rpartition(".")
    value: Tensor = getattr(safe.get_submodule(holder), name)
    return value


def _give_own_input(safe: fx.GraphModule, node: fx.Node) -> None:
    """Give a module an input tensor of its own.

    Captum registers a hook on the input tensor of a ReLU and replaces its gradient. Where other layers read the same
    tensor (the pooling branch of an Inception block), their gradient would be lost. Where a ReLU made it, that ReLU's
    hook is on the same tensor, comes first, and would see the gradient before it is replaced.
    """
    source = node.all_input_nodes[0]
    if not is_tensor(source):
        return
    with safe.graph.inserting_before(node):
        own = safe.graph.call_method("clone", (source,))
    own.meta = {"shape": source.meta["shape"]}
    node.replace_input_with(source, own)
