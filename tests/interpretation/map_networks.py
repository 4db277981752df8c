"""Networks for maps: ways to take the largest value, to enlarge, to make layers in forward, to hold layers."""

import functools
import random
import types
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 5


class Between(nn.Module):
    """A convolution without bias, a ReLU, whatever stands between it and the head, and a linear head without bias."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.between = between
        self.head = nn.LazyLinear(CLASSES, bias=False)
        self(torch.zeros(1, 3, 24, 24))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self, self.stem(x).relu()).flatten(1))


# How networks take the largest value of each channel, or of parts of it.
LARGEST: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "adaptive module": lambda m, x: nn.AdaptiveMaxPool2d(1)(x),
    "adaptive, several places": lambda m, x: F.adaptive_max_pool2d(x, (3, 5)),
    "adaptive, with indices": lambda m, x: F.adaptive_max_pool2d(x, 2, return_indices=True)[0],
    "adaptive in one dimension": lambda m, x: F.adaptive_max_pool1d(x.flatten(2), 4),
    "amax": lambda m, x: x.amax((2, 3)),
    "amax that keeps its axes": lambda m, x: torch.amax(x, dim=(-1, -2), keepdim=True),
    "max over one axis": lambda m, x: torch.max(x.flatten(2), dim=2)[0],
    "max by method": lambda m, x: x.max(3, keepdim=True).values.max(2)[0],
    "max of two": lambda m, x: torch.max(x[:, :4], x[:, 4:]).mean((2, 3)),
    "maximum of two": lambda m, x: torch.maximum(x[:, :4], 2 * x[:, 4:]).mean((2, 3)),
    "smallest": lambda m, x: (
        x.unflatten(1, (4, 2)).amin(2).mean((2, 3)) - x.unflatten(1, (2, 4)).min(1)[0].mean((2, 3))
    ),
    "overlapping windows": lambda m, x: F.max_pool2d(x, 3, 1, 1),
    "windows of a size of the input": lambda m, x: F.max_pool2d(x, x.shape[-2:]),
    "dilated, padded and rounded up": lambda m, x: F.max_pool2d(
        x, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(2, 1), ceil_mode=True
    ),
    "with indices": lambda m, x: F.max_pool2d(x, 2, return_indices=True)[0],
    "a module in one dimension": lambda m, x: nn.MaxPool1d(3, 2)(x.flatten(2)),
    "torch's function": lambda m, x: torch.max_pool2d(x, 2),
}

# What makes a map larger.
ENLARGING: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "nearest": lambda m, x: F.interpolate(x, scale_factor=2),
    "nearest by size": lambda m, x: F.interpolate(x, (29, 31), mode="nearest-exact"),
    "bilinear": lambda m, x: F.interpolate(x, size=x.shape[2:], mode="bilinear"),
    "bilinear with corners": lambda m, x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True),
    "area": lambda m, x: F.interpolate(x, (7, 9), mode="area"),
    "Upsample": lambda m, x: nn.Upsample(scale_factor=2)(x),
    "Upsample, bilinear": lambda m, x: nn.Upsample(scale_factor=2, mode="bilinear")(x),
    "UpsamplingNearest2d": lambda m, x: nn.UpsamplingNearest2d(scale_factor=2)(x),
    "UpsamplingBilinear2d": lambda m, x: nn.UpsamplingBilinear2d(scale_factor=2)(x),
    "PixelShuffle": lambda m, x: nn.PixelShuffle(2)(x),
    "pixel_shuffle": lambda m, x: F.pixel_shuffle(x, 2),
    "transposed convolution by function": lambda m, x: F.conv_transpose2d(x, m.stem.weight.detach().mT, stride=2),
    "reflected border": lambda m, x: nn.ReflectionPad2d(2)(x),
    "replicated border": lambda m, x: F.pad(x, (1, 2, 3, 4), mode="replicate"),
}


class MadeInForward(nn.Module):
    """Layers without weights that are made where they are used, or kept in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(72, CLASSES)
        self.kept = [nn.ReLU(inplace=True)]

    def forward(self, x: Tensor) -> Tensor:
        x = nn.ReLU()(self.stem(x))
        x = nn.Sequential(nn.MaxPool2d(2), nn.Sequential(nn.ReLU6(), nn.Softmax(dim=1)))(x)
        x = self.kept[0](x - 0.1)
        return self.head(nn.Flatten()(nn.AdaptiveAvgPool2d(3)(nn.Dropout2d(0.0)(x))))


class WeightsMadeInForward(nn.Module):
    """A layer with weights that is made anew at each call: each answer is another."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.Linear(3, CLASSES)(x.mean((2, 3)))


class WeightsInAList(nn.Module):
    """A layer with weights in a plain list, where torch does not find it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = [nn.Conv2d(3, CLASSES, 3)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x).relu().mean((2, 3))


def plain() -> nn.Sequential:
    """Two convolutions, a normalisation and a linear layer."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES)).eval()


def _old_spectral_norm(layer: nn.Module) -> None:
    torch.nn.utils.spectral_norm(layer.train())(torch.zeros(1, 3, 8, 8))
    layer.eval()


# Ways of computing a weight anew at each call.
COMPUTED_WEIGHTS: dict[str, Callable[[nn.Module], object]] = {
    "weight_norm": torch.nn.utils.weight_norm,
    "parametrized weight_norm": torch.nn.utils.parametrizations.weight_norm,
    "spectral_norm": _old_spectral_norm,
    "parametrized spectral_norm": torch.nn.utils.parametrizations.spectral_norm,
    "prune": lambda layer: torch.nn.utils.prune.l1_unstructured(layer, "weight", amount=0.3),
    "prune twice": lambda layer: [
        torch.nn.utils.prune.random_unstructured(layer, name, amount=0.3) for name in ("weight", "weight", "bias")
    ],
}


def with_computed_weight(name: str) -> nn.Module:
    """`plain` with the first layer's weight computed anew at each call."""
    network = plain()
    COMPUTED_WEIGHTS[name](network[0])
    network[0].eval()
    return network


def forward_held_by_a_function() -> nn.Module:
    """A forward put on the instance that holds the old one: copies run the layers of the original."""
    network = plain()
    network.forward = torch.no_grad()(network.forward)
    return network


def hook_that_holds_a_layer() -> nn.Module:
    """A hook that runs another layer of the network: so does each copy, of the original."""
    network = plain()
    network.append(nn.Linear(CLASSES, CLASSES))
    head = network[7]
    network[8].register_forward_hook(lambda module, inputs, output: output + head.weight.sum())
    return network


def forward_bound_to_the_network() -> nn.Module:
    """A forward put on the instance in a way that can be copied."""
    network = plain()
    network.forward = functools.partial(
        types.MethodType(lambda self, scale, x: scale * self[3:](self[:3](x)), network), 2
    )
    return network


def keeps_its_features() -> nn.Module:
    """A network that keeps its last features, which torch does not copy while they are part of a graph."""

    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.seen = plain(), {}

        def forward(self, x: Tensor) -> Tensor:
            self.seen["last"] = x = self.body[:6](x)
            return self.body[6:](x)

    network = Keeps().eval()
    network(torch.zeros(1, 3, 8, 8))
    return network


def with_a_scripted_part() -> nn.Module:
    """A network one of whose layers is TorchScript."""
    network = plain()
    network[3] = torch.jit.script(network[3])
    return network


class Draws(nn.Module):
    """Draws random numbers in eval mode."""

    def __init__(self, draw: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.draw = plain(), draw

    def forward(self, x: Tensor) -> Tensor:
        return self.body[3:](self.draw(self.body[:3](x)))


DRAWN: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": lambda x: F.dropout(x, 0.5),
    "a module in training mode": lambda x: nn.Dropout(0.5)(x),
    "noise": lambda x: x + torch.randn_like(x),
    "noise of a fixed size": lambda x: x + torch.randn(1, 6, 1, 1),
    "numpy": lambda x: x * float(np.random.rand()),
    "Python": lambda x: x * random.random(),
}


class SwitchedOff(nn.Module):
    """Channels behind a ReLU: one that is dead, one that bright pictures excite, one that a single pattern excites."""

    DEAD, BRIGHT, PATTERN = 0, 1, 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.place = nn.Conv2d(3, 3, 8, 4), nn.Parameter(torch.rand(3, 7, 7))
        self.relu, self.out, self.head = nn.ReLU(inplace=True), nn.Identity(), nn.Linear(3, CLASSES)
        with torch.no_grad():
            self.conv.weight[self.BRIGHT] = 1 / 192
            self.conv.weight[self.PATTERN] = torch.randn(3, 8, 8).sign() / 192
            # mid-grey is 0 to the first two, and no picture in [-1, 1] is more than 1
            self.conv.bias.copy_(torch.tensor([-100.0, -0.5, -0.4]))
            self.head.weight[2], self.head.bias[2] = 0, 0.3  # a class that nothing changes

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.out(self.relu(self.conv(x)) + self.place).mean((2, 3)))
