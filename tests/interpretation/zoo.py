"""Small networks, and torchvision's with random weights whose signals neither vanish nor explode."""

import torch
import torchvision
from torch import Tensor, nn

SIZE = 64  # pixels: the smallest that leaves ResNets and SqueezeNet a feature map of more than one position
FOUND_AT = 1  # the class asked about
OF_ATTENTION = ("gradient_rollout", "legrad")  # methods for transformers alone


def picture(size: int = SIZE, seed: int = 1) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))  # (1, 3, size, size)


def randomised(network: nn.Module) -> nn.Module:
    """Random biases and BatchNorms, whose running statistics are those of one random batch."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.momentum = 1.0
        elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            module.bias.data.normal_(0, 0.05)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, SIZE, SIZE))
    return network.eval()


def torchvision_network(name: str, **settings: object) -> nn.Module:
    torch.manual_seed(0)
    return randomised(torchvision.models.get_model(name, weights=None, num_classes=10, **settings))


def small_convolutional() -> nn.Module:
    """Two convolutions, one ReLU used twice and in place, overlapping max pooling, a linear layer."""
    torch.manual_seed(3)  # one network, whichever tests ran before; LIME's map of it is not all zero
    relu = nn.ReLU(inplace=True)
    layers = [nn.Conv2d(3, 6, 3, padding=1), relu, nn.MaxPool2d(3, 2), nn.Conv2d(6, 8, 3), relu, nn.MaxPool2d(3, 2)]
    return randomised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 5)))


class Spellings(nn.Module):
    """ReLU, ReLU6, additions and max pooling in every spelling, and tensors that several layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU()
        self.idle = nn.Dropout(0.5, inplace=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = torch.relu(x) + self.idle(x)
        x = self.relu(nn.functional.relu(x, inplace=True))
        x = self.relu(self.second(x)).relu()
        y = x
        x = nn.functional.max_pool2d(x, 3, 2, padding=1) + nn.functional.relu6(self.second(x))[:, :, ::2, ::2]
        x += torch.add(x, x)
        x = torch.cat([x, y.relu_()[:, :, ::2, ::2]]).chunk(2)[0]
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Untraceable(nn.Module):
    """Asks a value of a tensor, which torch.fx cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x) if x.mean() < 100 else x
        return x.relu().mean((2, 3))


class Named(nn.Module):
    """A SiLU called `relu`: a module's name says nothing of what it is."""

    def __init__(self):
        super().__init__()
        self.stem, self.relu = nn.Conv2d(3, 5, 3), nn.SiLU()

    def forward(self, x):
        return self.relu(self.stem(x)).mean((2, 3))


class Flagged(nn.Module):
    """Flags with defaults, `*args` and keywords, which a caller of network(image) never gives."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3)

    def forward(self, x, features=False, *args, scale=None):
        x = self.stem(x).relu()
        if args or scale is not None:
            x = x * scale
        return x if features else x.mean((2, 3))


class Variadic(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3)

    def forward(self, *args):
        assert len(args) == 1
        return self.stem(args[0]).relu().mean((2, 3))
