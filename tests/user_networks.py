"""Networks as users have them: each is of a kind that was once explained wrongly. A few lines each."""

import ctypes
import os
import sys
import threading

import pytest
import torch
from networks import small
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from spade_cli.errors import UserError
from spade_cli.models import Classifier, wrap

SIZE = 32  # pixels a side, for all of them


def seeded(make):
    """The same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return make()


class Net(nn.Module):
    """Two convolutions and a head; `finish` is what a network does with its scores."""

    def __init__(self, classes=5, channels=3):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)
        nn.init.normal_(self.head.weight, std=3.0)

    def features(self, x):
        return F.relu(self.conv(F.relu(self.stem(x)))).mean((2, 3))

    def finish(self, scores):
        return scores

    def forward(self, x):
        return self.finish(self.head(self.features(x)))


def wrapped(network: nn.Module, **settings: object) -> Classifier:
    return wrap(network, size=SIZE, mean=0.5, std=0.25, **settings)


def refusal(network: nn.Module, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        wrapped(network, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture() -> Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2)) * 2 - 1


# A copy that runs the original's layers.


def forward_replaced():
    """`forward` is replaced on the instance by a closure over the old one, as torch.autocast(...)(m.forward) does."""
    model = small()
    model.forward = torch.autocast("cpu", enabled=False)(model.forward)
    return model


def part_replaced():
    """The same for one layer only."""
    model = small()
    own = model.conv1.forward
    model.conv1.forward = lambda x: own(x)
    return model


def hook_with_a_layer():
    """A hook that closes over a layer, which it adds."""
    model = seeded(Net)
    extra = model.conv
    model.stem.register_forward_hook(lambda module, args, output: output + extra(output))
    return model


GLOBAL = nn.Linear(8, 5)


class UsesAGlobal(Net):
    def forward(self, x):
        return GLOBAL(self.features(x))


def global_layer():
    """The head is a global variable, and no part of the network."""
    return seeded(UsesAGlobal)


# What cannot be copied.


def with_a_lock():
    """It holds a lock."""
    model = seeded(Net)
    model.conv.lock = threading.Lock()
    return model


def with_a_file():
    """It holds an open file."""
    model = seeded(Net)
    model.log = open(__file__, encoding="utf-8")  # noqa: SIM115, PTH123 (that it stays open is the point)
    return model


def with_a_tensor_of_parameters():
    """It keeps a tensor that was made of its parameters."""
    model = seeded(Net)
    model.scale = model.head.weight.norm()
    return model


# Weights that are computed at each call.


def _normed(norm):
    model = seeded(Net)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        norm(model.conv)
        norm(model.head)
    with torch.enable_grad():
        model(torch.zeros(1, 3, SIZE, SIZE))  # leaves weights behind that are no leaves of autograd's graph
    return model


def old_weight_norm():
    """torch.nn.utils.weight_norm, after a call."""
    return _normed(weight_norm)


def old_spectral_norm():
    """torch.nn.utils.spectral_norm, after a call."""
    return _normed(spectral_norm)


def new_weight_norm():
    """torch.nn.utils.parametrizations.weight_norm."""
    return _normed(parametrizations.weight_norm)


def new_spectral_norm():
    """torch.nn.utils.parametrizations.spectral_norm."""
    return _normed(parametrizations.spectral_norm)


def pruned_by_torch():
    """torch.nn.utils.prune, twice on one layer."""

    def norm(layer):
        prune.l1_unstructured(layer, "weight", 0.3)
        prune.random_unstructured(layer, "weight", 0.2)

    return _normed(norm)


# Wrappers, hidden layers, types, channels.


def compiled():
    """What torch.compile returns."""
    return torch.compile(small(), backend="eager")


def data_parallel():
    """What nn.DataParallel returns."""
    return nn.DataParallel(small())


class HasScripted(Net):
    def __init__(self):
        super().__init__()
        self.conv = torch.jit.script(nn.Conv2d(8, 8, 3, padding=1))


def scripted_part():
    """A part of it is TorchScript."""
    return seeded(HasScripted)


class HasExported(Net):
    def __init__(self):
        super().__init__()
        example = (torch.zeros(1, 8, SIZE // 2, SIZE // 2),)
        self.conv = torch.export.export(nn.Conv2d(8, 8, 3, padding=1), example).module()


def exported_part():
    """A part of it is an exported graph."""
    return seeded(HasExported)


class OwnModes(Net):
    def train(self, mode=True):
        super().train(mode)

    def eval(self):
        self.train(False)


def modes_that_return_nothing():
    """Its train() and eval() return None."""
    return seeded(OwnModes)


class OwnTypes(Net):
    def __init__(self, dtype):
        super().__init__()
        self.to(dtype)
        self.dtype = dtype

    def forward(self, x):
        return super().forward(x.to(self.dtype)).float()


def half_inside():
    """Its forward computes in half precision."""
    return seeded(lambda: OwnTypes(torch.float16))


def double_inside():
    """Its forward computes in double precision."""
    return seeded(lambda: OwnTypes(torch.float64))


def grey():
    """A network of one channel."""
    return seeded(lambda: Net(channels=1))


def four_channels():
    """A network of four channels."""
    return seeded(lambda: Net(channels=4))


class TakesADict(Net):
    def forward(self, batch: dict[str, Tensor]):
        return super().forward(batch["image"])


def takes_a_dict():
    """Its input is a dict."""
    return seeded(TakesADict)


class TwoInputs(Net):
    def forward(self, x, y):
        return super().forward(x + y)


def two_inputs():
    """It takes two pictures."""
    return seeded(TwoInputs)


class Loud(nn.Module):
    """Prints when it is made and when it runs, in every way there is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = small()
        print("LOUD when made")

    def forward(self, x: Tensor) -> Tensor:
        print("LOUD when run")
        sys.__stdout__.write("LOUD past sys.stdout\n")
        os.write(1, b"LOUD past Python\n")
        ctypes.CDLL(None).printf(b"LOUD in C\n")
        return self.body(x)


def loud():
    """A network that prints."""
    return seeded(Loud)
