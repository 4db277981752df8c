"""Small networks and pictures that the tests share."""

import numpy as np
import torch
from PIL import Image
from torch import nn


class Small(nn.Module):
    """A real network in miniature: a residual block with BatchNorm, one ReLU used three times, a head."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(self.conv2(self.relu(self.conv1(x))) + x)
        return self.head(x.mean((2, 3)))


def small():
    """A factory for model=python: the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Small()
        nn.init.normal_(model.head.weight, std=3.0)
        return model.eval()


class Attentive(nn.Module):
    """Attention over the places of a feature map: its projections are multiplied with, and never called."""

    def __init__(self, classes=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        tokens = self.stem(x).flatten(2).mT  # (N, T, C)
        return self.head((tokens + self.attention(tokens, tokens, tokens)[0]).mean(1))


def attentive():
    """A factory for model=python: the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Attentive().eval()


def photograph(size=(48, 40), seed=0):
    """Smooth random colours, as a PIL image."""
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
