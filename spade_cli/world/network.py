"""The small residual network of the world: torchvision's ResNet with narrow stages, and its weights."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from spade_cli.errors import SpadeError
from spade_cli.models import Classifier, wrap
from spade_cli.models.checkpoints import hash_file
from spade_cli.world.classes import CLASSES
from spade_cli.world.pictures import SIZE

WEIGHTS = Path(__file__).with_name("demo.safetensors")

# Multiples of 16, one vector register of a CPU: widths of 24 and 48 took twice the time.
# Most blocks are in the last stage, which keeps 8 x 8 positions: a trace prunes the late layers, and explains only what
# they compute.
STEM = 16
WIDTHS = (16, 32, 64, 64)
BLOCKS = (1, 1, 2, 6)
STRIDES = (1, 2, 2, 1)  # of a stage's first block

# Mean and deviation of pictures in [0, 1], measured on 400 of them and rounded.
MEAN = (0.54, 0.54, 0.50)
STD = (0.13, 0.13, 0.14)


class DemoNetwork(ResNet):
    """torchvision's ResNet with narrower stages than its constructor allows: the same blocks and forward pass.

    (n, 3, 128, 128), normalised with `MEAN` and `STD` -> (n, classes).
    """

    def __init__(self, classes: int = len(CLASSES)):
        nn.Module.__init__(self)  # ResNet's own constructor would build stages of 64 to 512 channels
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = STEM, 1, 1, 64
        self.conv1 = nn.Conv2d(3, STEM, kernel_size=7, stride=2, padding=3, bias=False)  # 128 -> 64 pixels
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)  # 64 -> 32 pixels
        self.layer1 = self._make_layer(BasicBlock, WIDTHS[0], BLOCKS[0], stride=STRIDES[0])
        self.layer2 = self._make_layer(BasicBlock, WIDTHS[1], BLOCKS[1], stride=STRIDES[1])
        self.layer3 = self._make_layer(BasicBlock, WIDTHS[2], BLOCKS[2], stride=STRIDES[2])
        self.layer4 = self._make_layer(BasicBlock, WIDTHS[3], BLOCKS[3], stride=STRIDES[3])
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(WIDTHS[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def normalise_pictures(images: Tensor) -> Tensor:
    """The network's input, float32 (n, 3, H, W), from pictures, uint8 (n, 3, H, W)."""
    mean, std = images.new_tensor(MEAN, dtype=torch.float32), images.new_tensor(STD, dtype=torch.float32)
    return (images / 255 - mean[:, None, None]) / std[:, None, None]


def load_demo_network(path: Path = WEIGHTS) -> DemoNetwork:
    """The trained network in eval mode, float32; the file holds half precision. Raises SpadeError without it."""
    if not path.is_file():
        raise SpadeError(f"{path} is missing: install spade again, or make it with scripts/train_demo_model.py")
    network = DemoNetwork()
    network.load_state_dict(load_file(path))  # copied into float32 parameters
    network.eval()
    return network


def demo_classifier() -> Classifier:
    """The trained network with its labels and preprocessing: `model=demo`."""
    labels = [one.name for one in CLASSES]
    classifier = wrap(load_demo_network(), name="demo", labels=labels, size=SIZE, mean=MEAN, std=STD)
    return replace(classifier, weights="bundled", sha256=hash_file(WEIGHTS))
