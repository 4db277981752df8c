"""Networks that users bring, each for one thing that a program may get wrong about them."""

import ctypes
import os
import sys

import torch
from torch import Tensor, nn


def _quiet() -> nn.Sequential:
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), *pooled)


class _Loud(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = _quiet()
        print("LOUD when made")

    def forward(self, x: Tensor) -> Tensor:
        print("LOUD when run")
        sys.__stdout__.write("LOUD past sys.stdout\n")
        os.write(1, b"LOUD past Python\n")
        ctypes.CDLL(None).printf(b"LOUD in C\n")
        result: Tensor = self.body(x)
        return result


def loud() -> nn.Module:
    """A network that prints, in every way there is, when it is made and when it runs."""
    torch.manual_seed(0)
    return _Loud()
