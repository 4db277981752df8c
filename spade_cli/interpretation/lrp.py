"""Layer-wise relevance propagation with the alpha = 1, beta = 0 rule, as gradient times input of a network with rules.

For a layer with inputs x, weights w and outputs z = sum of x_i w_i + b, relevance goes to the inputs in proportion to
their positive contributions (Bach et al. 2015, equation 60 with alpha = 1, beta = 0):

    R_i = (x_i w_i)+ / p * R,    p = sum over i of (x_i w_i)+

Each layer is replaced with one that computes p * constant(z / p): the same outputs (a bias alone is added as a
constant), and gradients such that x_i * gradient_i is R_i. Gradient times input of the whole network is then the
relevance of the pixels (Ancona et al. 2018, proposition 1). Three decisions make it sound on today's networks:

- A BatchNorm is folded into the convolution before it; one that cannot be folded hands its relevance through.
- The bias's part is spread over the inputs: with folded BatchNorms it would absorb nearly everything, and conservation
  would check nothing. What only a bias switched on still loses its relevance; `conservation` shows how much.
- A negative output is shared among its negative contributions. Behind a ReLU no such output has relevance, so there the
  rule is the one above; it matters for linear bottlenecks (MobileNetV2), residual sums without ReLU, and negative
  logits.
"""

import copy
import operator
from typing import Any

import torch
import torch.nn.functional as F
from captum import attr
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spade_cli.interpretation.explainable import Explainable
from spade_cli.interpretation.explanation import (
    CONSERVATION_ERROR,
    CannotExplain,
    Explanation,
    captum_on,
    explained,
    needs_safe_copy,
    prepared,
)
from spade_cli.interpretation.rewriting import (
    FLATTEN_CALLS,
    Add,
    ClippedReLU,
    FeatureMap,
    is_tensor,
    module_of,
    replace_call,
    settings_are_plain,
)

# Far below any contribution that matters, far above the smallest float32: only keeps 0 / 0 from happening.
STABILIZER = 1e-12

LINEAR = (nn.Conv2d, nn.Linear)
PASSING = (
    nn.ReLU,
    nn.Identity,
    FeatureMap,
    nn.Dropout,
    nn.Dropout2d,
    nn.Flatten,
    nn.MaxPool2d,
    nn.AdaptiveMaxPool2d,
    Add,
)
MOVING_CALLS: frozenset[Any] = FLATTEN_CALLS | {
    "clone", "contiguous", "squeeze", "unsqueeze", "permute", "transpose", "chunk", "split", "size", "dim",
    torch.cat, torch.concat, torch.squeeze, torch.unsqueeze, torch.permute, torch.transpose, torch.chunk, torch.split,
    operator.getitem, getattr, F.dropout,
}  # fmt: skip
AVERAGE_CALLS: frozenset[Any] = frozenset({F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, "mean"})
SCALE_CALLS: frozenset[Any] = frozenset({operator.mul, operator.truediv})
SHIFT_CALLS: frozenset[Any] = frozenset({operator.add, operator.sub})


def lrp(network: Explainable, image: Tensor, target: int) -> Explanation:
    """Relevance of each pixel for the target's output, by the alpha = 1, beta = 0 rule of this file's docstring.

    checks: `conservation` is the map's sum over the output, 1 when no relevance was lost.
    Errors: CannotExplain, naming the layers, where the network has one without a rule (GELU, LayerNorm, attention,
    ...).
    """
    needs_safe_copy(network, "lrp")
    image = prepared(network, image, target)
    ruled = with_rules(network.model)
    with captum_on(ruled):
        relevance = attr.InputXGradient(ruled).attribute(image, target=target)  # (1, 3, H, W)
    with torch.no_grad():
        output = network.model(image)[0, target].item()
    conservation = relevance.sum().item() / output if output else float("nan")
    notes: tuple[str, ...] = ()
    if output <= 0:
        notes += (
            f"lrp: the class's output is not positive ({output:.3g}), so relevance is negative: evidence against it",
        )
    if not abs(conservation - 1) <= CONSERVATION_ERROR:
        notes += (f"lrp: relevance sums to {conservation:.1%} of the output (100 % expected); biases kept the rest",)
    return explained("lrp", relevance, {"conservation": conservation}, notes)


def with_rules(model: nn.Module) -> fx.GraphModule:
    """A rewritten network (`Explainable.model`) -> the network whose gradient times input is its relevance.

    CannotExplain where a layer has no rule; every call in the graph has to be one that is known.
    """
    assert isinstance(model, fx.GraphModule)
    ruled = copy.deepcopy(model)
    _fold_batch_norms(ruled)
    without_rule = set()
    for node in ruled.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if (rule := _rule(ruled, node)) is None:
            without_rule.add(_kind(ruled, node))
        elif rule is not KEEP:
            replace_call(ruled, node, rule, inputs=2 if isinstance(rule, SharedSum) else 1)
    if without_rule:
        raise CannotExplain(f"lrp has no sound rule for {', '.join(sorted(without_rule))}")
    ruled.recompile()
    return ruled


# Stands for: plain gradient times input is the right rule already (ReLU, max pooling, moving values about).
KEEP = nn.Identity()


def _rule(ruled: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that carries a node's rule, KEEP where the node needs none, None where none is known."""
    called = module_of(ruled, node)
    if isinstance(called, LINEAR):
        return SharedLinear(called)
    if isinstance(called, Add):
        return SharedSum()
    if isinstance(called, (nn.AvgPool2d, nn.AdaptiveAvgPool2d)):
        return SharedMean(called)
    if isinstance(called, (nn.BatchNorm2d, ClippedReLU)):
        return Passing(called)
    if called is not None:
        return KEEP if isinstance(called, PASSING) else None
    if node.target in AVERAGE_CALLS | SHIFT_CALLS | SCALE_CALLS and is_tensor(node):
        if not (settings_are_plain(node) and is_tensor(node.args[0])):
            return None  # a setting read from a tensor, or the product of two tensors
        if node.target in SCALE_CALLS:
            return KEEP
        return SharedMean(_call(node)) if node.target in AVERAGE_CALLS else Passing(_call(node))
    sizes_only = node.op == "call_function" and not is_tensor(node) and not any(map(is_tensor, node.all_input_nodes))
    known = sizes_only or node.target in MOVING_CALLS or _is_idle_stochastic_depth(node)
    return KEEP if known else None


def _call(node: fx.Node) -> "Call":
    """A function or method call as a module of its first argument."""
    return Call(node.target, tuple(node.args[1:]), dict(node.kwargs))


def _is_idle_stochastic_depth(node: fx.Node) -> bool:
    """torchvision's stochastic depth, which in eval mode returns its input."""
    return getattr(node.target, "__name__", "") == "stochastic_depth"


def _kind(ruled: fx.GraphModule, node: fx.Node) -> str:
    """The name of what a node calls, for the user."""
    called = module_of(ruled, node)
    if called is not None:
        return type(called).__name__
    return "parameters outside layers" if node.op == "get_attr" else getattr(node.target, "__name__", str(node.target))


def _fold_batch_norms(ruled: fx.GraphModule) -> None:
    """Fold each BatchNorm into the convolution before it, where only the BatchNorm reads that convolution."""
    calls = [str(node.target) for node in ruled.graph.nodes if node.op == "call_module"]
    for node in list(ruled.graph.nodes):
        norm = module_of(ruled, node)
        before = node.all_input_nodes[0] if node.all_input_nodes else None
        if not isinstance(norm, nn.BatchNorm2d) or before is None or len(before.users) > 1:
            continue
        convolution = module_of(ruled, before)
        if isinstance(convolution, nn.Conv2d) and norm.track_running_stats and calls.count(str(before.target)) == 1:
            replace_call(ruled, before, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            ruled.graph.erase_node(node)


def _shared(output: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """`output`, with the gradient of its `positive` contributions where it is positive, else of its `negative` ones."""
    output, up = output.detach(), output.detach() >= 0
    return _scaled(torch.where(up, positive, negative), output, up)


def _scaled(carrier: Tensor, output: Tensor, up: Tensor) -> Tensor:
    """`output`, with the gradient of carrier * constant(output / carrier); `up`: where the carrier is not negative."""
    scaled = carrier * (output / (carrier + torch.where(up, STABILIZER, -STABILIZER))).detach()
    # where nothing but a bias made the output, `scaled` is 0: the layers behind still need the output
    return scaled + (output - scaled).detach()


class SharedLinear(nn.Module):
    """A convolution or linear layer whose relevance is shared among the contributions of its output's sign."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.up, self.down = copy.deepcopy(layer), copy.deepcopy(layer)
        for part, weight in ((self.up, layer.weight.clamp(min=0)), (self.down, layer.weight.clamp(max=0))):
            part.weight = nn.Parameter(weight.detach(), requires_grad=False)
            part.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        above, below = input.clamp(min=0), input.clamp(max=0)
        return _shared(self.layer(input), self.up(above) + self.down(below), self.down(above) + self.up(below))


class SharedMean(nn.Module):
    """An average pooling with the same rule; its weights are positive, so a contribution has its input's sign."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return _shared(self.pool(input), self.pool(input.clamp(min=0)), self.pool(input.clamp(max=0)))


class SharedSum(nn.Module):
    """An addition with the same rule.

    Plain gradient times input (LRP-0) would hand 10 R to one branch and -9 R to the other where they nearly cancel, and
    over a ResNet's blocks that grows without bound.
    """

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        positive = first.clamp(min=0) + second.clamp(min=0)
        return _shared(first + second, positive, first.clamp(max=0) + second.clamp(max=0))


class Passing(nn.Module):
    """An elementwise layer whose inputs get their own output's relevance, all of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return _scaled(input, self.layer(input).detach(), input.detach() >= 0)


class Call(nn.Module):
    """A function, or a tensor's method by name, as a module."""

    def __init__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        if isinstance(self.function, str):
            return getattr(input, self.function)(*self.args, **self.kwargs)
        return self.function(input, *self.args, **self.kwargs)
