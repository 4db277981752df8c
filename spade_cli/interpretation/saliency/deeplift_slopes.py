"""DeepLift's slopes of products, softmax, attention, normalisation and maxima, so that the map's sum holds.

DeepLift (Shrikumar et al. 2017) explains the difference between an image's output and a baseline's. Captum stacks the
two in one batch (2N, ...). Its rescale rule (section 3.5.1) replaces the gradient of an elementwise module by the slope
between the two inputs. The functions here are composed of such functions and of products. For a product z = x y in
which both factors change, dz = dx mean(y) + mean(x) dy holds exactly and gives each factor its Shapley value. All
functions compute the same outputs as torch, with these slopes as gradients.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SAME = 1e-6  # of the larger of the two: a smaller difference is rounding, and the slope is the gradient


def mean_of_pair(x: Tensor) -> Tensor:
    """The mean of image and baseline, without a gradient, in both halves: (2N, ...) -> (2N, ...)."""
    first, second = x.detach().chunk(2)
    return ((first + second) / 2).repeat(2, *[1] * (x.dim() - 1))


def product(multiply: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """A product x y, (2N, ...) each, elementwise or of matrices: `multiply` is linear in both."""
    slope = multiply(x, mean_of_pair(y)) + multiply(mean_of_pair(x), y)
    return slope + (multiply(x.detach(), y.detach()) - slope).detach()


def multiply_by_scale(x: Tensor, scale: Tensor) -> Tensor:
    """x times its scale, (2N, ...) each, with dz = dx s(image) + x(baseline) ds, which is exact as well.

    The two terms of `product` would nearly cancel where the baseline is flat: its scale is then 1 / sqrt(eps), a
    thousand times the image's. After some layers only rounding errors would remain.
    """
    first = scale.detach().chunk(2)[0]
    second = x.detach().chunk(2)[1]
    slope = x * first.repeat(2, *[1] * (scale.dim() - 1)) + second.repeat(2, *[1] * (x.dim() - 1)) * scale
    return slope + (x.detach() * scale.detach() - slope).detach()


def rescale(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function (2N, ...) with the slope between image and baseline; its gradient if they are equal."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        output = function(leaf)
        (gradient,) = torch.autograd.grad(output.sum(), leaf)
    output = output.detach()
    change = torch.sub(*x.detach().chunk(2))
    size = torch.maximum(*x.detach().abs().chunk(2))
    there = change.abs() > SAME * size
    steep = torch.sub(*output.chunk(2)) / torch.where(there, change, torch.ones_like(change))
    gradient = gradient.nan_to_num(0, 0, 0)  # sqrt at 0: nothing changes there
    slope = torch.where(torch.cat([there, there]), torch.cat([steep, steep]), gradient)
    return slope * x + (output - slope * x).detach()


def softmax(x: Tensor, dim: int) -> Tensor:
    """exp(x - log sum exp x), two functions with slopes; scores of image and baseline may be hundreds apart."""
    x = x.clamp(min=torch.finfo(x.dtype).min / 4)  # a mask's -inf minus itself would be NaN
    return rescale(torch.exp, x - log_sum_exp(x, dim))


def log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """log of the sum of exp(x), with the slope of exp divided by that of log, both computed as logarithms.

    exp(x) itself would be 0 or infinite. The slope between two exponentials is their logarithmic mean.
    """
    # in double precision, which Apple's GPUs lack: an error here is multiplied with the change of the scores
    wide = x.detach() if x.device.type == "mps" else x.detach().double()
    total = wide.logsumexp(dim, keepdim=True)
    slope = (_log_of_mean(*wide.chunk(2)) - _log_of_mean(*total.chunk(2))).exp().to(x.dtype)  # (N, ...)
    linear = (slope.repeat(2, *[1] * (x.dim() - 1)) * x).sum(dim, keepdim=True)
    return linear + (total.to(x.dtype) - linear).detach()


def _log_of_mean(a: Tensor, b: Tensor) -> Tensor:
    """log of (exp(a) - exp(b)) / (a - b), the logarithm of exp(a) where they are equal."""
    apart = (a - b).abs()
    near = apart < 1e-4  # half of it is then right to 1e-9
    safe = torch.where(near, torch.ones_like(apart), apart)
    return torch.maximum(a, b) + torch.where(near, -apart / 2, (-torch.expm1(-safe) / safe).log())


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """softmax(q k^T) v, (2N, heads, T, d) each."""
    scores = product(torch.matmul, query, key.mT) * (query.shape[-1] ** -0.5 if scale is None else scale)
    return product(torch.matmul, softmax(scores if mask is None else scores + mask, -1), value)


def normalise(x: Tensor, dims: tuple[int, ...], eps: float, centred: bool = True) -> Tensor:
    """x minus its mean, over its standard deviation; not centred: x over its root mean square."""
    x = x - x.mean(dims, keepdim=True) if centred else x
    variance = product(torch.mul, x, x).mean(dims, keepdim=True)
    return multiply_by_scale(x, rescale(lambda v: (v + eps).rsqrt(), variance))


def gather_largest(x: Tensor, index: Tensor) -> Tensor:
    """x's values (2N, ..., K) at the index (2N, ..., k) of the largest: x.gather(-1, index), with slopes.

    The place of the image's maximum gets what the output rose, (top - baseline). That of the baseline's maximum gets
    what it fell, (image - top). top is the larger of the two outputs. The image's maximum is then larger than the
    baseline's value at its place, so the division by their difference is safe.
    """
    value = x.detach().gather(-1, index)
    out, out_baseline = value.chunk(2)  # (N, ..., k)
    top = torch.maximum(out, out_baseline)
    slope, moved = torch.zeros_like(value), torch.zeros_like(out, dtype=torch.bool)
    for where, change in zip(index.chunk(2), (top - out_baseline, out - top), strict=True):
        here = x.gather(-1, torch.cat([where, where]))  # (2N, ..., k): image and baseline at one of the two places
        first, second = here.detach().chunk(2)
        there = (first - second).abs() > SAME * torch.maximum(first.abs(), second.abs())
        steep = torch.where(there, change / torch.where(there, first - second, torch.ones_like(change)), 0)
        slope, moved = slope + torch.cat([steep, steep]) * here, moved | there
    slope = torch.where(torch.cat([moved, moved]), slope, x.gather(-1, index))  # no change: the gradient
    return slope + (value - slope).detach()
