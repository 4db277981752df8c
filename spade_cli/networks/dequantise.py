"""A network with linear layers in int8 -> the same with float layers, which can be pruned and have gradients."""

from typing import Any

import torch
from torch import nn

# Dynamic quantisation keeps weights in int8 (or float16) and rounds each input anew; torch.ao is moving out of torch.
DYNAMIC_LINEAR = "torch.ao.nn.quantized.dynamic.modules.linear.Linear"


def is_dynamic_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer that torch.ao.quantization.quantize_dynamic made."""
    return f"{type(module).__module__}.{type(module).__qualname__}" == DYNAMIC_LINEAR


def dequantise_layers(network: nn.Module) -> tuple[nn.Module, int]:
    """Replace each dynamically quantised linear layer by a float one with the same weights, in place; and their number.

    The answers differ a little from the quantised network's: its layers also round their inputs.
    """
    if is_dynamic_linear(network):
        return _make_float(network), 1
    found = 0
    for module in list(network.modules()):
        for name, child in module.named_children():
            if is_dynamic_linear(child):
                setattr(module, name, _make_float(child))
                found += 1
    return network, found


def _make_float(layer: Any) -> nn.Linear:
    weight, bias = layer.weight(), layer.bias()
    values = weight.dequantize() if weight.is_quantized else weight
    made = nn.Linear(layer.in_features, layer.out_features, bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(values)
        if bias is not None:
            made.bias.copy_(bias)
    return made.train(layer.training)
