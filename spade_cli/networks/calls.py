"""What a network multiplies its weights with, observed in the functions of torch that multiply.

A forward hook misses a weight that is used without a call of its module (nn.MultiheadAttention, Swin's windows, BEiT's
qkv), and is misled by a module whose forward pads its input or computes its weight anew. F.linear and F.conv2d get the
weight as it is used: if that is the parameter itself, the input beside it is what it is multiplied with.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Call:
    """One call of a linear or convolution function; a one-dimensional convolution is a two-dimensional one of height 1.

    >>> linear_call(torch.zeros(2, 5), torch.zeros(3, 5)).kernel
    """

    x: Tensor  # (..., c) of a linear call, (N, C, H, W) of a convolution
    kernel: tuple[int, int] | None = None  # None: linear
    stride: tuple[int, int] = (1, 1)
    padding: str | tuple[int, int] = (0, 0)  # of zeros; other padding modes have padded x before the call
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def linear_call(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call:
    """What F.linear was called with."""
    return Call(input)


def convolution_call(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call:
    """What F.conv1d or F.conv2d was called with."""
    dims = weight.dim() - 2
    x = input if input.dim() == weight.dim() else input[None]
    sides = padding if isinstance(padding, str) else _as_pair(padding, dims, 0)
    kernel = _as_pair(tuple(weight.shape[2:]), dims, 1)
    x = x.unsqueeze(2) if dims == 1 else x
    return Call(x, kernel, _as_pair(stride, dims, 1), sides, _as_pair(dilation, dims, 1), groups)


def _as_pair(value: Any, dims: int, missing: int) -> tuple[int, int]:
    """A setting of a convolution as (vertical, horizontal)."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    values = values * dims if len(values) == 1 else values
    return (missing, values[0]) if dims == 1 else (values[0], values[1])


READERS: dict[str, Callable[..., Call]] = {
    "linear": linear_call,
    "conv1d": convolution_call,
    "conv2d": convolution_call,
}


@contextmanager
def watch_calls(
    on_call: Callable[[Tensor, Call], None], on_output: Callable[[Tensor, Tensor], None] | None = None
) -> Iterator[None]:
    """Inside the `with`, `on_call(weight, call)` is called before each linear or convolution function.

    `on_output(weight, output)` is called after it. torch's fused attention, which hides its multiplications, is off.
    """
    originals = {name: getattr(F, name) for name in READERS}
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for name, original in originals.items():
            setattr(F, name, _wrap_function(original, READERS[name], on_call, on_output))
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for name, original in originals.items():
            setattr(F, name, original)


def _wrap_function(
    original: Callable[..., Tensor],
    read: Callable[..., Call],
    on_call: Callable[[Tensor, Call], None],
    on_output: Callable[[Tensor, Tensor], None] | None,
) -> Callable[..., Tensor]:
    def call(*args: Any, **kwargs: Any) -> Tensor:
        weight = kwargs["weight"] if "weight" in kwargs else args[1]
        on_call(weight, read(*args, **kwargs))
        output = original(*args, **kwargs)
        if on_output is not None:
            on_output(weight, output)
        return output

    return call
