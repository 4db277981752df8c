"""DeepLift's rules for functions of torch that captum has no rule for; `deeplift_slopes.py` has the mathematics."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from spade_cli.interpretation.saliency.deeplift_slopes import (
    attention,
    gather_largest,
    log_sum_exp,
    multiply_by_scale,
    normalise,
    product,
    rescale,
    softmax,
)


class DifferenceRules(TorchFunctionMode):
    """Inside the `with`, calls on tensors that depend on the image get DeepLift's slopes.

    A call with arguments that its rule does not know (a rounding mode, an output to write into) gets none.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in RULES and torch.is_grad_enabled() and _takes_arguments(name, func, args, kwargs):
            output = RULES[name](func, *args, **kwargs)
            if output is not None:
                return output
        return func(*args, **kwargs)


def _takes_arguments(name: str, func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a rule's signature takes these arguments."""
    try:
        SIGNATURES[name].bind(func, *args, **kwargs)
    except TypeError:
        return False
    return True


def _depends_on_image(x: Any) -> bool:
    """Whether a value depends on the image."""
    return isinstance(x, Tensor) and x.requires_grad and x.shape[:1] != (0,) and x.shape[0] % 2 == 0


def _product(func: Any, input: Any, other: Any) -> Tensor | None:
    return product(func, input, other) if _depends_on_image(input) and _depends_on_image(other) else None


def _matrix_product(func: Any, input: Any, mat2: Any) -> Tensor | None:
    return _product(func, input, mat2)


def _einsum(func: Any, equation: str, *operands: Any) -> Tensor | None:
    if len(operands) != 2 or not all(map(_depends_on_image, operands)):
        return None
    return product(lambda x, y: func(equation, x, y), *operands)


def _quotient(func: Any, input: Any, other: Any) -> Tensor | None:
    if not _depends_on_image(other):
        return None
    inverse = rescale(torch.reciprocal, other)
    return product(torch.mul, input, inverse) if _depends_on_image(input) else input * inverse


def _reverse_quotient(func: Any, input: Any, other: Any) -> Tensor | None:
    return _quotient(func, other, input)


def _softmax(func: Any, input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor | None:
    dtype = _stacklevel if isinstance(_stacklevel, torch.dtype) else dtype  # torch.softmax has it third
    if not _depends_on_image(input) or dim is None or dtype not in (None, input.dtype):
        return None
    return input - log_sum_exp(input, dim) if func.__name__ == "log_softmax" else softmax(input, dim)


def _attention(func: Any, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
               is_causal: bool = False, scale: float | None = None, **kwargs: Any) -> Tensor | None:  # fmt: skip
    boolean = isinstance(attn_mask, Tensor) and attn_mask.dtype == torch.bool
    if is_causal or boolean or kwargs or not all(map(_depends_on_image, (query, key, value))):
        return None
    return attention(query, key, value, attn_mask, scale)


def _layer_norm(func: Any, input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None,
                eps: float = 1e-5) -> Tensor | None:  # fmt: skip
    if not _depends_on_image(input):
        return None
    found = normalise(input, tuple(range(-len(normalized_shape), 0)), eps)
    return _scale_and_shift(found, weight, bias)


def _rms_norm(func: Any, input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
              ) -> Tensor | None:  # fmt: skip
    if not _depends_on_image(input):
        return None
    small = torch.finfo(input.dtype).eps if eps is None else eps
    return _scale_and_shift(
        normalise(input, tuple(range(-len(normalized_shape), 0)), small, centred=False), weight, None
    )


def _group_norm(func: Any, input: Any, num_groups: int, weight: Any = None, bias: Any = None,
                eps: float = 1e-5) -> Tensor | None:  # fmt: skip
    if not _depends_on_image(input):
        return None
    grouped = input.unflatten(1, (num_groups, -1))  # (2N, groups, C / groups, ...)
    found = normalise(grouped, tuple(range(2, grouped.dim())), eps).flatten(1, 2)
    shape = (-1, *[1] * (input.dim() - 2))
    return _scale_and_shift(found, *(None if part is None else part.view(shape) for part in (weight, bias)))


def _normalize(
    func: Any, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None
) -> Tensor | None:
    if not _depends_on_image(input) or p != 2 or out is not None:
        return None
    square = product(torch.mul, input, input).sum(dim, keepdim=True)
    return multiply_by_scale(input, rescale(lambda s: s.sqrt().clamp(min=eps).reciprocal(), square))


def _norm(func: Any, input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, out: Any = None,
          dtype: Any = None) -> Tensor | None:  # fmt: skip
    if not _depends_on_image(input) or p not in (2, "fro") or dim is None or out is not None or dtype is not None:
        return None
    return rescale(torch.sqrt, product(torch.mul, input, input).sum(dim, keepdim=keepdim))


def _vector_norm(func: Any, x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False) -> Tensor | None:
    return _norm(func, x, ord, dim, keepdim)


def _elementwise(func: Any, input: Any, *settings: Any, **named: Any) -> Tensor | None:
    if not _depends_on_image(input) or "out" in named or any(map(_depends_on_image, (*settings, *named.values()))):
        return None
    return rescale(lambda v: func(v, *settings, **named), input)


def _max_pool(pool: Callable[..., Any], func: Any, input: Any, *settings: Any, return_indices: bool = False,
            **named: Any) -> Any:  # fmt: skip
    """Maxima over windows, which may overlap; input (2N, C, ...)."""
    if not _depends_on_image(input) or input.dim() < 3:
        return None
    value, index = pool(input.detach(), *settings, return_indices=True, **named)  # (2N, C, ...)
    found = gather_largest(input.flatten(2), index.flatten(2)).view_as(value)
    return (found, index) if return_indices else found


def _largest(func: Any, input: Any, dim: Any = (), keepdim: bool = False) -> Tensor | None:
    """amax and amin over axes that are not the batch's."""
    if not _depends_on_image(input):
        return None
    axes = sorted({axis % input.dim() for axis in (dim if isinstance(dim, Sequence) else (dim,))})
    if not axes or axes[0] == 0:
        return None
    sign = -1 if func.__name__ in SMALLEST else 1
    kept = [axis for axis in range(input.dim()) if axis not in axes]
    flat = sign * input.permute(*kept, *axes).flatten(len(kept))  # (2N, ..., K)
    found = sign * gather_largest(flat, flat.detach().argmax(-1, keepdim=True)).squeeze(-1)
    for axis in axes if keepdim else ():
        found = found.unsqueeze(axis)
    return found


def _max(func: Any, input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """torch.max and torch.min: over one axis, with its indices, or of two tensors."""
    if isinstance(dim, Tensor) or other is not None:
        return _larger(func, input, dim if other is None else other)
    found = None if dim is None else _largest(func, input, dim, keepdim)
    return None if found is None else KINDS[func.__name__]((found, func(input.detach(), dim, keepdim)[1]))


def _larger(func: Any, input: Any, other: Any) -> Tensor | None:
    """The larger or smaller of two, element by element; one may be a constant."""
    moving = [x for x in (input, other) if _depends_on_image(x)]
    if not moving:
        return None
    both = torch.stack(torch.broadcast_tensors(input, other), -1)  # (2N, ..., 2)
    if any(both.shape[0] != x.shape[0] or both.dim() != x.dim() + 1 for x in moving):
        return None
    sign = -1 if func.__name__ in SMALLEST else 1
    return sign * gather_largest(sign * both, (sign * both).detach().argmax(-1, keepdim=True)).squeeze(-1)


def _power(func: Any, input: Any, exponent: Any) -> Tensor | None:
    return (
        None
        if _depends_on_image(exponent) or not _depends_on_image(input)
        else rescale(lambda v: func(v, exponent), input)
    )


def _scale_and_shift(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


SMALLEST = ("amin", "min", "minimum", "fmin")
KINDS: dict[str, Callable[..., Any]] = {"max": torch.return_types.max, "min": torch.return_types.min}
POOLS = ("max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")

# By the names of torch's functions, of its methods, and of what operators call.
RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "multiply", "matmul", "__matmul__"), _product),
    **dict.fromkeys(("div", "__truediv__", "true_divide", "divide"), _quotient),
    **dict.fromkeys(("exp", "sqrt", "rsqrt", "square", "abs", "reciprocal", "log"), _elementwise),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max", "threshold", "prelu", "log1p"), _elementwise),
    **dict.fromkeys(("softsign", "log_sigmoid", "hardshrink", "softshrink", "tanhshrink"), _elementwise),
    **{name + end: partial(_max_pool, getattr(F, name)) for name in POOLS for end in ("", "_with_indices")},
    **dict.fromkeys(("amax", "amin"), _largest),
    **dict.fromkeys(("max", "min"), _max),
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), _larger),
    **dict.fromkeys(("pow", "__pow__"), _power),
    **dict.fromkeys(("__rdiv__", "__rtruediv__"), _reverse_quotient),
    "bmm": _matrix_product,
    "norm": _norm,
    "vector_norm": _vector_norm,
    "linalg_vector_norm": _vector_norm,
    "einsum": _einsum,
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "normalize": _normalize,
}
SIGNATURES = {name: inspect.signature(rule) for name, rule in RULES.items()}
