"""The rules of layer-wise relevance propagation: modules whose gradient times input is the relevance of the input.

`lrp.py` says what the rules are, `lrp_choice.py` which call gets which.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spade_cli.interpretation.rewrite.rewrite_graph import Multihead
from spade_cli.interpretation.saliency.lrp_followed import follow

# Far below any contribution that matters, far above the smallest float32: it only avoids 0 / 0.
STABILIZER = 1e-12
TINY = 1e-6  # instead of zero where relevance may end


def share(output: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """The output, with the gradient of its positive contributions where it is positive, else of its negative ones."""
    output, up = output.detach(), output.detach() >= 0
    return scale_carrier(torch.where(up, positive, negative), output, up)


def scale_carrier(carrier: Tensor, output: Tensor, up: Tensor) -> Tensor:
    """The output, with the gradient of carrier * constant(output / carrier); up: where the carrier is not negative."""
    ratio = carrier * (output / (carrier + torch.where(up, STABILIZER, -STABILIZER))).detach()
    # where the output is a bias alone, `ratio` is 0, but the layers behind need the output
    return ratio + (output - ratio).detach()


def share_product(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor, output: Tensor) -> Tensor:
    """The output of a product, with all of its relevance for x; the weight is a constant.

    product(x, weight) is linear in both: a linear layer, a convolution, a matrix product. The output may have a bias.
    """
    weight = weight.detach()
    above, below, up, down = x.clamp(min=0), x.clamp(max=0), weight.clamp(min=0), weight.clamp(max=0)
    positive, negative = product(above, up) + product(below, down), product(above, down) + product(below, up)
    return share(output, positive, negative)


class LinearRule(nn.Module):
    """A convolution or linear layer: relevance is shared among the contributions that have the output's sign."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.up, self.down = copy.deepcopy(layer), copy.deepcopy(layer)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        for part, values in ((self.up, weight.clamp(min=0)), (self.down, weight.clamp(max=0))):
            part.weight = nn.Parameter(values.detach(), requires_grad=False)
            part.register_parameter("bias", None)

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        above, below = input.clamp(min=0), input.clamp(max=0)
        return share(self.layer(input), self.up(above) + self.down(below), self.down(above) + self.up(below))


class LinearCallRule(nn.Module):
    """F.linear or F.conv2d with a weight that no module holds, by the rule of LinearRule."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, input: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:  # noqa: D102
        output = self.function(input, weight, bias, *args, **kwargs)
        return share_product(lambda x, w: self.function(x, w, None, *args, **kwargs), input, weight, output)


class MeanRule(nn.Module):
    """An average, with the same rule; its weights are positive, so a contribution has its input's sign."""

    def __init__(self, average: nn.Module) -> None:
        super().__init__()
        self.average = average

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: D102
        parts = (input, input.clamp(min=0), input.clamp(max=0))
        return share(*(self.average(part, *args, **kwargs) for part in parts))


class SumRule(nn.Module):
    """An addition, or a subtraction, with the same rule.

    Where two branches nearly cancel, plain gradient times input (LRP-0) would give 10 R to one and -9 R to the other.
    Over a ResNet's blocks that grows without bound.
    """

    def __init__(self, sign: int = 1) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        second = self.sign * second
        positive = first.clamp(min=0) + second.clamp(min=0)
        return share(first + second, positive, first.clamp(max=0) + second.clamp(max=0))


class IdentityRule(nn.Module):
    """A call that passes all relevance to one of its inputs, element by element."""

    def __init__(self, call: nn.Module, place: int = 0) -> None:
        super().__init__()
        self.call, self.place = call, place

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: D102
        input = args[self.place]
        output = self.call(*args, **kwargs).detach()
        return scale_carrier(input.expand_as(output), output, input.detach() >= 0)


class GateRule(nn.Module):
    """A product with a gate, a factor that says how much of the other passes: the other gets all relevance."""

    call: Callable[..., Tensor]

    def __init__(self, call: nn.Module, gate: int) -> None:
        super().__init__()
        self.call, self.gate = call, gate

    def forward(self, *args: Tensor, **kwargs: Any) -> Tensor:  # noqa: D102
        return self.call(*(arg.detach() if place == self.gate else arg for place, arg in enumerate(args)), **kwargs)


class ProductRule(nn.Module):
    """The elementwise product of two signals: each gets half of the relevance, its Shapley value."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        output = first.detach() * second.detach()
        halves = (first * second.detach() + first.detach() * second) / 2
        return halves + (output - halves).detach()


class ConstantMatmulRule(nn.Module):
    """A matrix product with attention weights or another constant: the other factor gets all relevance."""

    call: Callable[..., Tensor]

    def __init__(self, call: nn.Module, constant: int, signal: int) -> None:
        super().__init__()
        self.call, self.constant, self.signal = call, constant, signal

    def forward(self, *args: Any) -> Tensor:  # noqa: D102
        def product(x: Tensor, weight: Tensor) -> Tensor:
            placed = list(args)
            placed[self.signal], placed[self.constant] = x, weight
            return self.call(*placed)

        x, weight = args[self.signal], args[self.constant]
        return share_product(product, x, weight, product(x.detach(), weight.detach()))


class MatmulRule(nn.Module):
    """A matrix product of two signals: relevance is shared among the terms of its sums, the products of two values.

    Each factor of a term gets half of its relevance (Achtibat et al. 2024, AttnLRP, proposition 3.3).
    """

    def __init__(self, call: nn.Module, places: Sequence[int]) -> None:
        super().__init__()
        first, second = places
        self.first, self.second = ConstantMatmulRule(call, second, first), ConstantMatmulRule(call, first, second)

    def forward(self, *args: Any) -> Tensor:  # noqa: D102
        output: Tensor = (self.first(*args) + self.second(*args)) / 2
        return output


class WeightRule(nn.Module):
    """A softmax, sigmoid or norm that weighs a signal: its inputs get no relevance."""

    call: Callable[..., Tensor]

    def __init__(self, call: nn.Module) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: D102
        return self.call(*args, **kwargs).detach()


class AttentionRule(nn.Module):
    """F.scaled_dot_product_attention: attention weights are constants, the values get all relevance."""

    def forward(  # noqa: D102
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)  # (N, heads, T, T)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # True takes part
            attn_mask = torch.zeros_like(attn_mask, dtype=scores.dtype).masked_fill(~attn_mask, -torch.inf)
        weights = (scores if attn_mask is None else scores + attn_mask).softmax(-1).detach()
        return share_product(lambda x, weight: weight @ x, value, weights, weights @ value.detach())


class MultiheadRule(nn.Module):
    """Multi-head attention by the rules of LinearRule and AttentionRule."""

    def __init__(self, layer: Multihead) -> None:
        super().__init__()
        self.layer, self.attention = layer, AttentionRule()
        self.value, self.out = LinearRule(layer.parts[2]), LinearRule(layer.out)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, None]:  # noqa: D102
        maps = self.layer.parts[0](query), self.layer.parts[1](key), self.value(value)  # (N, T, C) each
        split = [x.unflatten(-1, (self.layer.heads, -1)).transpose(1, 2) for x in maps]  # (N, heads, T, C / heads)
        return self.out(self.attention(*split).transpose(1, 2).flatten(2)), None  # (N, T, C)


def _share_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return share_product(F.linear, x, weight, F.linear(x, weight, bias))


class WindowRule(nn.Module):
    """torchvision's function for attention in shifted windows (Swin), by the rule of AttentionRule."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: D102
        with _WindowRules():
            return self.function(*args, **kwargs)


class _WindowRules(TorchFunctionMode):
    """Inside the `with`, linear calls follow LinearRule; softmax and products with its weights follow AttentionRule."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            return _share_linear(*args, **kwargs)
        if func is F.softmax:
            return func(*args, **kwargs).detach()
        if func is torch.Tensor.matmul and not args[0].requires_grad:
            weights, values = args
            return share_product(lambda x, weight: weight @ x, values, weights, weights @ values.detach())
        return func(*args, **kwargs)


class TokenRule(nn.Module):
    """A constant that gets relevance like a signal, as a class token does.

    value: the constant in the last pass, a leaf; its gradient times itself is its relevance.
    """

    value: Tensor

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        # zero (torchvision's class tokens start there) times any gradient would be no relevance
        self.value = torch.where(input == 0, TINY, input).detach().requires_grad_()
        return follow(self.value)


class Call(nn.Module):
    """A function, or a tensor's method by name, as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        if isinstance(self.function, str):
            return getattr(args[0], self.function)(*args[1:], **kwargs)
        return self.function(*args, **kwargs)
