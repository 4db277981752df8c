"""Convolutions and linear layers as one thing: a weight matrix and the matrix of inputs it is multiplied with.

Axes: g groups, r rows (outputs of one group), c columns (inputs of one output), n observations, N images, P positions.
Columns are ordered (in_channel, kernel_h, kernel_w), so a kernel is a run of `block` neighbouring columns.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS = (nn.modules.conv._ConvNd,)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer of a network, and whether it may be pruned.

    >>> find_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)))[1]
    Layer(name='2', kind='convolution 3x3', shape=(8, 8, 3, 3), reason=None, supported=True, block='2')
    """

    name: str  # dotted, as in named_modules()
    kind: str
    shape: tuple[int, ...]  # of the weight
    reason: str | None = None  # why it is left alone; None: it can be pruned
    supported: bool = True  # False: it can't be pruned even when named in schedule.layers
    block: str = ""  # the part of the network that it belongs to

    @property
    def parameters(self) -> int:
        """Number of weights (biases are never pruned)."""
        return prod(self.shape)


def find_layers(model: nn.Module) -> list[Layer]:
    """Every convolution and linear layer in the order of `named_modules()`, prunable or not.

    The stem (the first convolution in that order, which sees the pixels) and depthwise convolutions are left alone by
    default, as in the paper; naming them in `schedule.layers` prunes them all the same.
    """
    functional = {  # attention multiplies with these weights itself and never calls the module
        f"{name}.out_proj" for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)
    }
    layers: list[Layer] = []
    owner: dict[int, str] = {}  # the first layer that holds a parameter
    stem_seen = False
    for name, module in model.named_modules():
        reason, supported = None, True
        if isinstance(module, nn.Linear):
            kind = "linear"
            if name in functional:
                reason, supported = "called functionally by attention: its inputs cannot be seen", False
        elif isinstance(module, CONVOLUTIONS):
            kind = "convolution " + "x".join(map(str, module.kernel_size))
            if not isinstance(module, nn.Conv2d):
                reason, supported = f"{type(module).__name__} is not supported", False
            elif not stem_seen:
                reason = "stem: the first convolution"
            elif module.groups == module.in_channels and module.groups > 1:
                reason = "depthwise"
            stem_seen = True
        else:
            continue
        weight = module._parameters.get("weight")
        if supported and weight is None:  # by torch's weight_norm, spectral_norm, prune or parametrize
            reason, supported = "its weight is computed anew at each call", False
        elif supported and id(weight) in owner:
            reason, supported = f"shares its weight with {owner[id(weight)]}", False
        owner.setdefault(id(weight), name)
        layers.append(Layer(name, kind, tuple(module.weight.shape), reason, supported, block_name(model, name)))
    return layers


def block_name(model: nn.Module, layer: str) -> str:
    """What the network's author stacked: the first item of a container, from the root on, that is no container itself.

    So ResNet50 has fc, layer4.2, layer4.1 ... and SqueezeNet classifier.1, features.12 ...: the groups that the paper
    tunes. Layers outside containers go by the root's child that holds them.
    """
    parts = layer.split(".")
    module = model
    for depth, part in enumerate(parts, 1):
        stacked = isinstance(module, CONTAINERS)
        module = getattr(module, part)
        if stacked and not isinstance(module, CONTAINERS):
            return ".".join(parts[:depth])
    return parts[0]


def block_of(module: nn.Module) -> int:
    """Number of neighbouring columns that form one kernel: kernel_h * kernel_w, 1 for a linear layer."""
    return prod(module.kernel_size) if isinstance(module, nn.Conv2d) else 1


def weight_matrix(module: nn.Module) -> Tensor:
    """The layer's weight as (g, r, c); it may share the layer's memory.

    >>> weight_matrix(nn.Conv2d(8, 12, 3, groups=2)).shape
    torch.Size([2, 6, 36])
    """
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def input_matrix(module: nn.Module, x: Tensor, wanted: int | None, generator: torch.Generator) -> Tensor:
    """What the weight matrix is multiplied with, as (g, n, c): `weight_matrix @ input_matrix^T` is the output.

    `x` is what the layer was called with: (N, C, H, W) for a convolution, (..., c) for a linear layer. About `wanted`
    observations are drawn at random (None: all of them); a convolution's are the same positions in every image of the
    batch.
    """
    if isinstance(module, nn.Conv2d):
        return _patches(module, x if x.dim() == 4 else x[None], wanted, generator)
    rows = x.reshape(1, -1, x.shape[-1])  # (1, n, c)
    chosen = _choose(rows.shape[1], wanted, generator, x.device)
    return rows if chosen is None else rows[:, chosen]


def _patches(conv: nn.Conv2d, x: Tensor, wanted: int | None, generator: torch.Generator) -> Tensor:
    """Gather the patches under the kernel at some output positions, never the whole unfolded map unless asked to."""
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = conv.kernel_size, conv.stride, conv.dilation
    images = x.shape[0]
    x = _pad(conv, x)
    height, width = x.shape[2:]
    out_h = (height - dilation_h * (kernel_h - 1) - 1) // stride_h + 1
    out_w = (width - dilation_w * (kernel_w - 1) - 1) // stride_w + 1
    chosen = _choose(out_h * out_w, None if wanted is None else -(-wanted // images), generator, x.device)
    position = torch.arange(out_h * out_w, device=x.device) if chosen is None else chosen  # (P,)
    corner = position // out_w * stride_h * width + position % out_w * stride_w  # (P,)
    down = torch.arange(kernel_h, device=x.device) * dilation_h * width
    across = torch.arange(kernel_w, device=x.device) * dilation_w
    inside = (corner[:, None, None] + down[:, None] + across).flatten()  # (P kh kw,)
    # All channels of a pixel at once: neighbours in memory where the network runs with channels last.
    pixels = x.permute(0, 2, 3, 1).reshape(images, height * width, -1).index_select(1, inside)  # (N, P kh kw, C)
    by_group = pixels.view(images, len(position), kernel_h * kernel_w, conv.groups, -1)  # (N, P, kh kw, g, C/g)
    return by_group.permute(3, 0, 1, 4, 2).reshape(conv.groups, images * len(position), -1)  # (g, N P, c)


def _pad(conv: nn.Conv2d, x: Tensor) -> Tensor:
    if conv.padding == "valid":
        return x
    sides: list[int] = []  # left, right, top, bottom: F.pad starts at the last axis
    for axis in (1, 0):
        if conv.padding == "same":
            total = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
            sides += [total // 2, total - total // 2]  # torch puts the odd pixel behind
        else:
            sides += [int(conv.padding[axis])] * 2
    return F.pad(x, sides, mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode)


def _choose(available: int, wanted: int | None, generator: torch.Generator, device: torch.device) -> Tensor | None:
    """Distinct random indices, sorted so that memory is read in order; None where all are wanted."""
    if wanted is None or wanted >= available:
        return None
    return torch.randperm(available, generator=generator)[:wanted].sort().values.to(device)
