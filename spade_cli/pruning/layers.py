"""Convolutions and linear layers as one thing: a weight matrix and the matrix of inputs it is multiplied with.

Axes: g groups, r rows (outputs of one group), c columns (inputs of one output), n observations, N images, P positions.
Columns are ordered (in_channel, kernel_h, kernel_w), so a kernel is a run of `block` neighbouring columns.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spade_cli.networks.calls import Call, watch_calls
from spade_cli.networks.modes_and_seeds import eval_mode

CONVOLUTIONS = (nn.modules.conv._ConvNd,)
SOLVED = (nn.Conv1d, nn.Conv2d)
# Input projections of nn.MultiheadAttention: `in_proj` is the parameter `in_proj_weight`, and no module.
PROJECTIONS = ("in_proj", "q_proj", "k_proj", "v_proj")
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer of a network, and whether it may be pruned.

    >>> find_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)))[1]
    Layer(name='2', kind='convolution 3x3', shape=(8, 8, 3, 3), reason=None, supported=True, block='2', tied=None)
    """

    name: str  # dotted, as in layer_modules()
    kind: str
    shape: tuple[int, ...]  # of the weight
    reason: str | None = None  # why it is left alone; None: it can be pruned
    supported: bool = True  # False: it can't be pruned even when named in schedule.layers
    block: str = ""  # the part of the network that it belongs to
    tied: str | None = None  # the layer before it that holds the same weight, and is pruned for both

    @property
    def parameters(self) -> int:
        """Number of weights (biases are never pruned)."""
        return prod(self.shape)


def find_layers(model: nn.Module, image: Tensor | None = None) -> list[Layer]:
    """Every convolution and linear layer in the order of `named_modules()`, prunable or not.

    The stem (the first convolution in that order, which sees the pixels) and depthwise convolutions are left alone by
    default, as in the paper; naming them in `schedule.layers` prunes them all the same. With an `image` (1, 3, H, W)
    the network is run on it once, and layers whose weights it does not multiply with are not supported either.
    """
    layers: list[Layer] = []
    owner: dict[int, str] = {}  # the first layer that holds a parameter
    stem_seen = False
    for name, module in layer_modules(model).items():
        if not isinstance(module, (nn.Linear, *CONVOLUTIONS)):
            continue
        reason, supported, tied = None, True, None
        if isinstance(module, CONVOLUTIONS):
            if not isinstance(module, SOLVED):
                reason, supported = f"{type(module).__name__} is not supported", False
            elif not stem_seen:
                reason = "stem: the first convolution"
            elif module.groups == module.in_channels and module.groups > 1:
                reason = "depthwise"
            stem_seen = True
        weight = module._parameters.get("weight")
        if supported and weight is None:  # by torch's weight_norm, spectral_norm, prune or parametrize
            reason, supported = "its weight is computed anew at each call", False
        elif supported and id(weight) in owner:
            tied = owner[id(weight)]
            reason, supported = f"shares its weight with {tied}", False
        owner.setdefault(id(weight), name)
        layers.append(
            Layer(name, _kind(module), tuple(module.weight.shape), reason, supported, block_name(model, name), tied)
        )
    return layers if image is None else _find_reached(model, layers, image)


def _kind(module: nn.Module) -> str:
    if isinstance(module, CONVOLUTIONS):
        return "convolution " + "x".join(map(str, module.kernel_size))
    return "attention projection" if isinstance(module, Projection) else "linear"


class Projection(nn.Linear):
    """An input projection of attention as a layer: its weight is the attention's own parameter."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = weight


def layer_modules(model: nn.Module) -> dict[str, nn.Module]:
    """`named_modules()`, and behind each nn.MultiheadAttention its input projections, which are no modules.

    >>> list(layer_modules(nn.MultiheadAttention(4, 2)))
    ['', 'in_proj', 'out_proj']
    """
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        found[name] = module
        if isinstance(module, nn.MultiheadAttention):
            for key in PROJECTIONS:
                weight = module._parameters.get(f"{key}_weight")
                if weight is not None:
                    found[f"{name}.{key}".lstrip(".")] = Projection(weight)
    return found


@torch.no_grad()
def _find_reached(model: nn.Module, layers: list[Layer], image: Tensor) -> list[Layer]:
    """The layers, those not supported that a run on the image does not multiply with as they are."""
    modules = layer_modules(model)
    whole: set[int] = set()  # weights that were used
    parts: set[int] = set()  # memory of weights
    called: set[nn.Module] = set()

    def note_call(weight: Tensor, call: Call) -> None:
        whole.add(id(weight))
        parts.add(weight.untyped_storage().data_ptr())

    hooks = [module.register_forward_pre_hook(lambda module, _: called.add(module)) for module in model.modules()]
    try:
        with eval_mode(model), watch_calls(note_call):
            model(image.clone())
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for layer in layers:
        module = modules[layer.name]
        weight = module._parameters.get("weight")
        if layer.supported and weight is not None and id(weight) not in whole:
            why = "the network never calls it"
            if weight.untyped_storage().data_ptr() in parts:
                why = "parts of it are multiplied with different inputs"
            elif module in called:
                why = "its weight is computed anew at each call"
            layer = replace(layer, reason=why, supported=False)
        found.append(layer)
    return found


def block_name(model: nn.Module, layer: str) -> str:
    """What the network's author stacked: the first item of a container, from the root on, that is no container itself.

    So ResNet50 has fc, layer4.2, layer4.1 ... and SqueezeNet classifier.1, features.12 ...: the groups that the paper
    tunes. Layers outside containers go by the root's child that holds them.
    """
    parts = layer.split(".")
    module = model
    for depth, part in enumerate(parts, 1):
        stacked = isinstance(module, CONTAINERS)
        module = getattr(module, part, nn.Identity())  # attention's projections are no modules
        if stacked and not isinstance(module, CONTAINERS):
            return ".".join(parts[:depth])
    return parts[0]


def block_of(module: nn.Module) -> int:
    """Number of neighbouring columns that form one kernel: kernel_h * kernel_w, 1 for a linear layer."""
    return prod(module.kernel_size) if isinstance(module, CONVOLUTIONS) else 1


def weight_matrix(module: nn.Module) -> Tensor:
    """The layer's weight as (g, r, c); it may share the layer's memory.

    >>> weight_matrix(nn.Conv2d(8, 12, 3, groups=2)).shape
    torch.Size([2, 6, 36])
    """
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    groups = module.groups if isinstance(module, CONVOLUTIONS) else 1
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def input_matrix(call: Call, wanted: int | None, generator: torch.Generator) -> Tensor:
    """What the weight matrix is multiplied with, as (g, n, c): `weight_matrix @ input_matrix^T` is the output.

    About `wanted` observations are drawn at random (None: all of them); a convolution's are the same positions in every
    image of the batch.
    """
    if call.kernel is not None:
        return _patches(call, wanted, generator)
    rows = call.x.reshape(1, -1, call.x.shape[-1])  # (1, n, c)
    chosen = _choose(rows.shape[1], wanted, generator, rows.device)
    return rows if chosen is None else rows[:, chosen]


def _patches(call: Call, wanted: int | None, generator: torch.Generator) -> Tensor:
    """Gather the patches under the kernel at some output positions, never the whole unfolded map unless asked to."""
    assert call.kernel is not None
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = call.kernel, call.stride, call.dilation
    x = _pad(call)
    images, _, height, width = x.shape
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
    by_group = pixels.view(images, len(position), kernel_h * kernel_w, call.groups, -1)  # (N, P, kh kw, g, C/g)
    return by_group.permute(3, 0, 1, 4, 2).reshape(call.groups, images * len(position), -1)  # (g, N P, c)


def _pad(call: Call) -> Tensor:
    assert call.kernel is not None
    if call.padding == "valid":
        return call.x
    sides: list[int] = []  # left, right, top, bottom: F.pad starts at the last axis
    for axis in (1, 0):
        if call.padding == "same":
            total = call.dilation[axis] * (call.kernel[axis] - 1)
            sides += [total // 2, total - total // 2]  # torch puts the odd pixel behind
        else:
            sides += [int(call.padding[axis])] * 2
    return F.pad(call.x, sides)


def _choose(available: int, wanted: int | None, generator: torch.Generator, device: torch.device) -> Tensor | None:
    """Distinct random indices, sorted so that memory is read in order; None where all are wanted."""
    if wanted is None or wanted >= available:
        return None
    return torch.randperm(available, generator=generator)[:wanted].sort().values.to(device)
