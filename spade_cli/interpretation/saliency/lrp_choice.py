"""Which of LRP's rules each call of a graph gets."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from spade_cli.interpretation.rewrite.rewrite_graph import (
    ADD,
    FLATTEN_CALLS,
    Add,
    ArrangedMap,
    ClippedReLU,
    FeatureMap,
    Multihead,
    is_tensor,
    module_of,
)
from spade_cli.interpretation.saliency.lrp_flow import ATTENTION, Flow, function_of, gates
from spade_cli.interpretation.saliency.lrp_followed import ScoreRule
from spade_cli.interpretation.saliency.lrp_rules import (
    AttentionRule,
    Call,
    ConstantMatmulRule,
    GateRule,
    IdentityRule,
    LinearCallRule,
    LinearRule,
    MatmulRule,
    MeanRule,
    MultiheadRule,
    ProductRule,
    SumRule,
    TokenRule,
    WeightRule,
    WindowRule,
)
from spade_cli.networks.question import AppendScore

LINEAR_MODULES = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.ConvTranspose1d, nn.ConvTranspose2d)
LINEAR_CALLS: frozenset[Any] = frozenset({F.linear, F.conv1d, F.conv2d, F.conv_transpose1d, F.conv_transpose2d})
MEAN_MODULES = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
MEAN_CALLS: frozenset[Any] = frozenset(
    {F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_avg_pool1d, torch.mean, "mean", torch.sum, "sum"}
)
# Each input gets the relevance of its own output: normalisations, and activations with f(0) = 0.
PASSING_MODULES = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d, nn.LocalResponseNorm),
    *(nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.Tanh, nn.Hardtanh),
    ClippedReLU,
)
PASSING_CALLS: frozenset[Any] = frozenset(
    {F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm, F.local_response_norm}
) | frozenset(
    {F.gelu, F.silu, F.hardswish, F.mish, F.leaky_relu, F.prelu, F.elu, F.celu, F.selu, F.tanh, torch.tanh, "tanh"}
)  # fmt: skip
# Plain gradient times input is the right rule: they move values, or pass one of several.
KEPT_MODULES = (
    *(nn.ReLU, nn.Identity, FeatureMap, ArrangedMap, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Flatten, nn.Unflatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.PixelShuffle, nn.PixelUnshuffle),
    *(nn.ZeroPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d),
    *(nn.CircularPad2d, nn.ChannelShuffle, nn.Unfold, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)
KEPT_CALLS: frozenset[Any] = FLATTEN_CALLS | {
    "clone", "contiguous", "squeeze", "unsqueeze", "permute", "transpose", "swapaxes", "chunk", "split", "unbind",
    "unflatten", "expand", "expand_as", "repeat", "roll", "flip", "select", "narrow", "index_select", "movedim",
    "to", "float", "type_as", "view_as", "reshape_as", "amax", "split_with_sizes", "T", "mT", "detach_",
    torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose, torch.swapaxes, torch.chunk, torch.split,
    torch.unbind, torch.unflatten, torch.roll, torch.flip, torch.movedim, torch.index_select, torch.clone,
    torch.amax, torch.amin, "amin", F.max_pool1d, F.max_pool2d, F.adaptive_max_pool1d, F.adaptive_max_pool2d,
    torch.max_pool1d, torch.max_pool2d, F.max_pool1d_with_indices, F.max_pool2d_with_indices,
    F.adaptive_max_pool1d_with_indices, F.adaptive_max_pool2d_with_indices,
    F.pad, F.dropout, F.unfold, F.pixel_shuffle, F.pixel_unshuffle, operator.getitem, getattr,
}  # fmt: skip
LARGEST: frozenset[Any] = frozenset({torch.max, torch.min, "max", "min", torch.maximum, torch.minimum})
# They copy values, or average them with weights that are not negative; some bicubic weights are negative.
ENLARGING_CALLS: frozenset[Any] = frozenset({F.interpolate, F.upsample, F.upsample_nearest, F.upsample_bilinear})
AVERAGING_MODES = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear", "area")
JOINING_CALLS: frozenset[Any] = frozenset({torch.cat, torch.concat, torch.stack})
MUL: frozenset[Any] = frozenset({operator.mul, torch.mul, "mul"})
DIVIDE: frozenset[Any] = frozenset({operator.truediv, torch.div, "div"})
SUBTRACT: frozenset[Any] = frozenset({operator.sub, torch.sub, "sub"})
MATMUL: frozenset[Any] = frozenset({operator.matmul, torch.matmul, "matmul", torch.bmm, "bmm"})
ADDED_PRODUCT: frozenset[Any] = frozenset({torch.addcmul, "addcmul"})
# Functions of torchvision that are one call in a graph. By name: they are private, and may be others in each release.
KEPT_NAMES = ("stochastic_depth", "_patch_merging_pad")  # idle in eval mode; zeros around a map
WINDOWS = "shifted_window_attention"

# Stands for a call that needs no rule: plain gradient times input is right (ReLU, max pooling, moving values).
KEEP = nn.Identity()


def choose_rule(network: fx.GraphModule, node: fx.Node, flow: Flow) -> nn.Module | None:
    """The module with a node's rule; KEEP where the node needs none, None where there is none."""
    called, function = module_of(network, node), function_of(node)
    if node in flow.weights:
        return WeightRule(_as_module(called, node)) if gates(network, node) else KEEP
    if node not in flow.signal or node not in flow.relevant:
        return KEEP  # a constant, a size, or what only weights are made of
    if called is not None:
        return _module_rule(called, node, flow)
    if function in LINEAR_CALLS:
        return LinearCallRule(node.target) if _is_only_signal(node, flow, 0) else None  # type: ignore[arg-type]
    if function in MEAN_CALLS:
        return MeanRule(Call(node.target))
    if function in PASSING_CALLS:
        return IdentityRule(Call(node.target)) if _is_only_signal(node, flow, 0) else None
    if function in ADD or function in SUBTRACT:
        return _sum_rule(node, flow)
    if function in MUL or function in DIVIDE or function in MATMUL or function is torch.einsum:
        return _product_rule(node, flow)
    if function in ADDED_PRODUCT:
        return _added_product_rule(node, flow)
    if function in ATTENTION:
        return AttentionRule()
    if function in LARGEST:  # one of several values passes, of one tensor or of two
        return KEEP if all(arg in flow.signal for arg in node.all_input_nodes) else None
    if function in ENLARGING_CALLS:
        mode = node.kwargs.get("mode", "nearest")
        return _enlarging_rule(Call(node.target), mode) if _is_only_signal(node, flow, 0) else None
    if function in JOINING_CALLS:
        return KEEP if _insert_token_rules(network, node, flow) else None
    name = getattr(function, "__name__", "")
    if name == WINDOWS:
        return WindowRule(node.target)  # type: ignore[arg-type]
    return KEEP if function in KEPT_CALLS or name in KEPT_NAMES else None


def name_call(network: fx.GraphModule, node: fx.Node) -> str:
    """The name of the layer or function that a node calls, for the user."""
    called = module_of(network, node)
    return type(called).__name__ if called is not None else getattr(node.target, "__name__", str(node.target))


def _module_rule(called: nn.Module, node: fx.Node, flow: Flow) -> nn.Module | None:
    if isinstance(called, Add):
        return _sum_rule(node, flow)
    if isinstance(called, LINEAR_MODULES):
        return LinearRule(called)
    if isinstance(called, MEAN_MODULES):
        return MeanRule(called)
    if isinstance(called, nn.Upsample):
        return _enlarging_rule(called, called.mode)
    if isinstance(called, PASSING_MODULES):
        return IdentityRule(called)
    if isinstance(called, Multihead):
        return MultiheadRule(called)
    if isinstance(called, AppendScore):
        return ScoreRule(called)
    return KEEP if isinstance(called, KEPT_MODULES) else None


def _enlarging_rule(call: nn.Module, mode: object) -> nn.Module | None:
    return MeanRule(call) if mode in AVERAGING_MODES else None


def _sum_rule(node: fx.Node, flow: Flow) -> nn.Module | None:
    """Two signals share the relevance; with a constant, the signal gets all."""
    sign = -1 if function_of(node) in SUBTRACT else 1
    if node.kwargs or len(node.args) != 2:
        return None
    signals = [place for place in (0, 1) if node.args[place] in flow.signal]
    if len(signals) == 2:
        return SumRule(sign)
    if signals == [1] and sign < 0:
        return None
    call = Call(operator.sub if sign < 0 else operator.add)
    return IdentityRule(call, signals[0])


def _product_rule(node: fx.Node, flow: Flow) -> nn.Module | None:
    """Two signals get half of the relevance each; with a weight or a constant, the signal gets all."""
    function = function_of(node)
    places = [place for place, arg in enumerate(node.args) if isinstance(arg, fx.Node) and is_tensor(arg)]
    signals = [place for place in places if node.args[place] in flow.signal]
    passing = [place for place in signals if node.args[place] not in flow.weights]
    if node.kwargs or not passing or len(places) > 2:
        return None
    if len(passing) == 2:
        return (
            None if function in DIVIDE else ProductRule() if function in MUL else MatmulRule(Call(node.target), places)
        )
    if function in DIVIDE:  # by a constant or by weights, which are detached where they are made
        return KEEP if passing == [0] else None
    if function in MUL:
        others = [place for place in places if place not in passing]
        return GateRule(Call(node.target), others[0]) if others else KEEP
    if len(places) != 2:
        return None
    (other,) = (place for place in places if place not in passing)
    return ConstantMatmulRule(Call(node.target), other, passing[0])


def _added_product_rule(node: fx.Node, flow: Flow) -> nn.Module | None:
    """addcmul of a constant, a constant and a signal: the signal gets all of the relevance."""
    signals = [place for place, arg in enumerate(node.args) if arg in flow.signal]
    return IdentityRule(Call(node.target), signals[0]) if len(node.args) == 3 and signals in ([1], [2]) else None


def _insert_token_rules(network: fx.GraphModule, node: fx.Node, flow: Flow) -> bool:
    """Put a TokenRule behind constants that are joined to signals (class tokens); False where that cannot be done."""
    parts = node.args[0] if node.args else node.kwargs.get("tensors")
    if not isinstance(parts, list | tuple):
        return False
    for place, part in enumerate(parts):
        if isinstance(part, fx.Node) and part not in flow.signal:
            network.add_submodule(name := f"token_{node.name}_{place}", TokenRule())
            with network.graph.inserting_before(node):
                token = network.graph.call_module(name, (part,))
            node.replace_input_with(part, token)
    return True


def _as_module(called: nn.Module | None, node: fx.Node) -> nn.Module:
    return Call(node.target) if called is None else called


def _is_only_signal(node: fx.Node, flow: Flow, place: int) -> bool:
    """Whether the argument at `place` is the only one that depends on the image."""
    signals = flow.signal.intersection(node.all_input_nodes)
    return len(node.args) > place and signals == {node.args[place]}
