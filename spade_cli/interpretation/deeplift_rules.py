"""DeepLift's multipliers where captum has none: products, softmax, attention and normalisation, so that the sum holds.

DeepLift (Shrikumar et al. 2017) explains the difference between an image's output and a baseline's. Captum stacks the
two in one batch (2N, ...), and replaces the gradient of each elementwise module by its rescale rule, section 3.5.1: the
slope between the two inputs. The functions here are built of such functions and of products. For a product z = x y of
two things that both change, dz = dx mean(y) + mean(x) dy holds exactly, and gives each factor its Shapley value. The
rules compute the same outputs, with the gradients of these slopes.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SAME = 1e-6  # of the larger of the two: a difference below is rounding, and the gradient is the slope


def mean_of_pair(x: Tensor) -> Tensor:
    """The mean of image and baseline, in both places: (2N, ...) -> (2N, ...), without a gradient."""
    first, second = x.detach().chunk(2)
    return ((first + second) / 2).repeat(2, *[1] * (x.dim() - 1))


def product(multiply: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """What is linear in both, (2N, ...) each: elementwise, or of matrices."""
    slope = multiply(x, mean_of_pair(y)) + multiply(mean_of_pair(x), y)
    return slope + (multiply(x.detach(), y.detach()) - slope).detach()


def at_image_scale(x: Tensor, scale: Tensor) -> Tensor:
    """x times its scale, (2N, ...) each, with dz = dx s(image) + x(baseline) ds: exact as well, in the other order.

    A product's symmetric halves would nearly cancel where the baseline is flat: its scale is then 1 / sqrt(eps), a
    thousand times the image's, and over some layers nothing but rounding would be left.
    """
    first = scale.detach().chunk(2)[0]
    second = x.detach().chunk(2)[1]
    slope = x * first.repeat(2, *[1] * (scale.dim() - 1)) + second.repeat(2, *[1] * (x.dim() - 1)) * scale
    return slope + (x.detach() * scale.detach() - slope).detach()


def rescaled(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function (2N, ...) with the slope between image and baseline, and its gradient where they meet."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        output = function(leaf)
        (gradient,) = torch.autograd.grad(output.sum(), leaf)
    output = output.detach()
    change = torch.sub(*x.detach().chunk(2))
    size = torch.maximum(*x.detach().abs().chunk(2))
    there = change.abs() > SAME * size
    steep = torch.sub(*output.chunk(2)) / torch.where(there, change, torch.ones_like(change))
    gradient = gradient.nan_to_num(0, 0, 0)  # sqrt at 0: no change, nothing to share
    slope = torch.where(torch.cat([there, there]), torch.cat([steep, steep]), gradient)
    return slope * x + (output - slope * x).detach()


def softmax(x: Tensor, dim: int) -> Tensor:
    """exp(x - log sum exp x): two rescaled functions, of scores that may be hundreds apart between the two."""
    x = x.clamp(min=torch.finfo(x.dtype).min / 4)  # a mask's -inf, less itself, is no number
    return rescaled(torch.exp, x - log_sum_exp(x, dim))


def log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """log of the sum of exp(x): the slopes of exp over that of log, all of them by their logarithms.

    exp(x) itself would be 0 or infinite. The slope between two exponentials is their logarithmic mean.
    """
    # in double precision, which Apple's GPUs lack: what is lost here is multiplied with the change of the scores
    wide = x.detach() if x.device.type == "mps" else x.detach().double()
    total = wide.logsumexp(dim, keepdim=True)
    slope = (_log_of_mean(*wide.chunk(2)) - _log_of_mean(*total.chunk(2))).exp().to(x.dtype)  # (N, ...)
    linear = (slope.repeat(2, *[1] * (x.dim() - 1)) * x).sum(dim, keepdim=True)
    return linear + (total.to(x.dtype) - linear).detach()


def _log_of_mean(a: Tensor, b: Tensor) -> Tensor:
    """log of (exp(a) - exp(b)) / (a - b), which is exp(a) where they meet."""
    apart = (a - b).abs()
    near = apart < 1e-4  # half of it is then right to 1e-9
    safe = torch.where(near, torch.ones_like(apart), apart)
    return torch.maximum(a, b) + torch.where(near, -apart / 2, (-torch.expm1(-safe) / safe).log())


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """softmax(q k^T) v, (2N, heads, T, d) each."""
    scores = product(torch.matmul, query, key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return product(torch.matmul, softmax(scores if mask is None else scores + mask, -1), value)


def normalised(x: Tensor, dims: tuple[int, ...], eps: float, centred: bool = True) -> Tensor:
    """x less its mean, over its standard deviation (or, not centred, its root mean square)."""
    x = x - x.mean(dims, keepdim=True) if centred else x
    variance = product(torch.mul, x, x).mean(dims, keepdim=True)
    return at_image_scale(x, rescaled(lambda v: (v + eps).rsqrt(), variance))


class PairedRules(TorchFunctionMode):
    """Inside the `with`, calls on tensors that depend on the image get DeepLift's slopes.

    A call with arguments that its rule does not know (a rounding mode, an output to write into) is made as it is.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in RULES and torch.is_grad_enabled() and _knows(name, func, args, kwargs):
            made = RULES[name](func, *args, **kwargs)
            if made is not None:
                return made
        return func(*args, **kwargs)


def _knows(name: str, func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a rule's signature takes these arguments."""
    try:
        SIGNATURES[name].bind(func, *args, **kwargs)
    except TypeError:
        return False
    return True


def _moves(x: Any) -> bool:
    """Whether a value depends on the image."""
    return isinstance(x, Tensor) and x.requires_grad and x.shape[:1] != (0,) and x.shape[0] % 2 == 0


def _multiplied(func: Any, input: Any, other: Any) -> Tensor | None:
    return product(func, input, other) if _moves(input) and _moves(other) else None


def _matrices(func: Any, input: Any, mat2: Any) -> Tensor | None:
    return _multiplied(func, input, mat2)


def _einsum(func: Any, equation: str, *operands: Any) -> Tensor | None:
    if len(operands) != 2 or not all(map(_moves, operands)):
        return None
    return product(lambda x, y: func(equation, x, y), *operands)


def _divided(func: Any, input: Any, other: Any) -> Tensor | None:
    if not _moves(other):
        return None
    inverse = rescaled(torch.reciprocal, other)
    return product(torch.mul, input, inverse) if _moves(input) else input * inverse


def _divides(func: Any, input: Any, other: Any) -> Tensor | None:
    return _divided(func, other, input)


def _softmax(func: Any, input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor | None:
    dtypes = {dtype, _stacklevel if isinstance(_stacklevel, torch.dtype) else None} - {
        None
    }  # torch.softmax has it third
    if not _moves(input) or dim is None or dtypes - {input.dtype}:
        return None
    return softmax(input, dim)


def _attention(func: Any, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
               is_causal: bool = False, scale: float | None = None, **kwargs: Any) -> Tensor | None:  # fmt: skip
    boolean = isinstance(attn_mask, Tensor) and attn_mask.dtype == torch.bool
    if is_causal or boolean or kwargs or not all(map(_moves, (query, key, value))):
        return None
    return attention(query, key, value, attn_mask, scale)


def _layer_norm(func: Any, input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None,
                eps: float = 1e-5) -> Tensor | None:  # fmt: skip
    if not _moves(input):
        return None
    found = normalised(input, tuple(range(-len(normalized_shape), 0)), eps)
    return _scaled(found, weight, bias)


def _rms_norm(func: Any, input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
              ) -> Tensor | None:  # fmt: skip
    if not _moves(input):
        return None
    small = torch.finfo(input.dtype).eps if eps is None else eps
    return _scaled(normalised(input, tuple(range(-len(normalized_shape), 0)), small, centred=False), weight, None)


def _group_norm(func: Any, input: Any, num_groups: int, weight: Any = None, bias: Any = None,
                eps: float = 1e-5) -> Tensor | None:  # fmt: skip
    if not _moves(input):
        return None
    grouped = input.unflatten(1, (num_groups, -1))  # (2N, groups, C / groups, ...)
    found = normalised(grouped, tuple(range(2, grouped.dim())), eps).flatten(1, 2)
    shape = (-1, *[1] * (input.dim() - 2))
    return _scaled(found, *(None if part is None else part.view(shape) for part in (weight, bias)))


def _unit(func: Any, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Tensor | None:
    if not _moves(input) or p != 2 or out is not None:
        return None
    square = product(torch.mul, input, input).sum(dim, keepdim=True)
    return at_image_scale(input, rescaled(lambda s: s.sqrt().clamp(min=eps).reciprocal(), square))


def _norm(func: Any, input: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, out: Any = None,
          dtype: Any = None) -> Tensor | None:  # fmt: skip
    if not _moves(input) or p not in (2, "fro") or dim is None or out is not None or dtype is not None:
        return None
    return rescaled(torch.sqrt, product(torch.mul, input, input).sum(dim, keepdim=keepdim))


def _vector_norm(func: Any, x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False) -> Tensor | None:
    return _norm(func, x, ord, dim, keepdim)


def _elementwise(func: Any, input: Any) -> Tensor | None:
    return rescaled(func, input) if _moves(input) else None


def _power(func: Any, input: Any, exponent: Any) -> Tensor | None:
    return None if _moves(exponent) or not _moves(input) else rescaled(lambda v: func(v, exponent), input)


def _scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


# By the names of torch's functions, of its methods, and of what operators call.
RULES: dict[str, Callable[..., Tensor | None]] = {
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "multiply", "matmul", "__matmul__"), _multiplied),
    **dict.fromkeys(("div", "__truediv__", "true_divide", "divide"), _divided),
    **dict.fromkeys(("exp", "sqrt", "rsqrt", "square", "abs", "reciprocal", "log"), _elementwise),
    **dict.fromkeys(("pow", "__pow__"), _power),
    **dict.fromkeys(("__rdiv__", "__rtruediv__"), _divides),
    "bmm": _matrices,
    "norm": _norm,
    "vector_norm": _vector_norm,
    "linalg_vector_norm": _vector_norm,
    "einsum": _einsum,
    "softmax": _softmax,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "rms_norm": _rms_norm,
    "normalize": _unit,
}
SIGNATURES = {name: inspect.signature(rule) for name, rule in RULES.items()}
