"""Small networks, pictures and a summary that the tests share."""

import os

import numpy as np
import torch
from PIL import Image
from torch import nn

from spade_cli.report.summary import (
    AugmentationRecord,
    FidelityRecord,
    ImageRecord,
    ModelRecord,
    Prediction,
    Predictions,
    SparsityRecord,
    Summary,
    Target,
)

DEVICE = os.environ.get("SPADE_TEST_DEVICE", "cpu")  # where commands run that need not run on the CPU


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


class Corner(nn.Module):
    """It sees the upper right corner of pictures of 48 x 80 pixels, CORNER, and takes no pictures of another size."""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)
        place = torch.zeros(24, 40)
        place[2:8, 30:38] = 1
        self.register_buffer("place", place)

    def forward(self, x):
        x = self.conv(self.stem(x).relu()).relu() * self.place
        return self.head(x.mean((2, 3)) * 20)


CORNER = slice(1, 18), slice(57, 78)  # rows and columns of the pixels that any position of its `place` sees


def corner():
    """A factory for model=python: the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = Corner()
        nn.init.normal_(model.head.weight, std=3.0)
        return model.eval()


def photograph(size=(48, 40), seed=0):
    """Smooth random colours, as a PIL image."""
    coarse = np.random.default_rng(seed).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def summary_of(trace):
    """The summary of a run that made this trace and explained nothing."""
    said = Prediction(0, "cat", 0.9, 0.9)
    return Summary(
        target=Target(0, "cat"),
        prediction=Predictions(said, said),
        fidelity=FidelityRecord(True, 1.0, 0.0),
        sparsity=SparsityRecord(None, 0.5, trace.sparsity, trace.weights_total, trace.weights_kept),
        flags=(),
        spade_version="0",
        versions={"python": "3"},
        command="spade run",
        seed=0,
        device="cpu",
        image=ImageRecord(path="cat.png", sha256="0", size=(48, 40), view="image.png"),
        model=ModelRecord("net", "none", None, "softmax", 5),
        augmentation=AugmentationRecord("paper", 4),
        pruner="obs",
        schedule="uniform",
        layers=trace.layers,
        trials=trace.trials,
        saliency=(),
        visualizations=(),
        skipped=(),
        seconds={"total": 1.0},
    )
