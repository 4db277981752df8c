"""LRP by its definition, and DeepLift's sums: by hand, against captum, and on networks that people use."""

import pytest
import torch
from captum import attr
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule
from test_saliency import close, gradient, output
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from zoo import FOUND_AT, picture, randomised, torchvision_network

from spade_cli import interpretation
from spade_cli.interpretation import CannotExplain, explainable
from spade_cli.interpretation.lrp import with_rules
from spade_cli.interpretation.lrp_rules import SharedSum


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_lrp_by_hand(sign):
    """Bach et al. 2015, equation 60, unit by unit; with a negative output by its negative contributions."""
    torch.manual_seed(3)
    first, second, bias = torch.randn(4, 12), sign * torch.rand(5, 4), torch.rand(4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 5, bias=False))
    network[1].weight.data, network[1].bias.data, network[3].weight.data = first, bias, second
    image = picture(2)
    pixels = image.flatten()
    hidden = (first @ pixels + bias).relu()
    contributions = hidden * second[FOUND_AT]
    relevance_hidden = contributions / contributions.sum() * output(network, image)
    relevance = torch.zeros(12)
    for unit in range(4):
        positive = (first[unit] * pixels).clamp(min=0)
        relevance += positive / positive.sum() * relevance_hidden[unit]
    found = interpretation.lrp(explainable(network, image), image, FOUND_AT)
    assert (hidden > 0).any() and close(found.map.flatten(), relevance)
    assert found.checks["conservation"] == pytest.approx(1, abs=1e-5)
    assert any("not positive" in line for line in found.warnings) == (sign < 0)


def test_lrp_of_a_sum_and_of_a_batch_norm():
    first, second = torch.tensor([10.0, 2.0], requires_grad=True), torch.tensor([-9.0, 6.0], requires_grad=True)
    slopes = torch.autograd.grad(SharedSum()(first, second).sum(), (first, second))
    assert close((first * slopes[0]).detach(), torch.tensor([1.0, 2.0]))  # 10 - 9: not 10 and -9
    assert close((second * slopes[1]).detach(), torch.tensor([0.0, 6.0]))
    network = randomised(
        nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5)
        )
    )
    folded = nn.Sequential(fuse_conv_bn_eval(network[0], network[1]), *network[2:])
    maps = [interpretation.lrp(explainable(each, picture(24)), picture(24), FOUND_AT).map for each in (network, folded)]
    assert close(*maps)


def test_lrp_agrees_with_captums_where_captums_holds():
    """Layers in a row, ReLU between them, an image without negative values, and a positive output."""
    torch.manual_seed(1)

    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AvgPool2d(2)]
            self.layers, self.head = nn.Sequential(*layers), nn.Linear(32, 5)

        def forward(self, x):
            return self.head(self.layers(x).flatten(1))

    network = Row().eval()
    image = picture(14).abs()
    target = int(network(image).argmax())
    found = interpretation.lrp(explainable(network, image), image, target).map
    for layer in (network.layers[0], network.layers[3], network.head):
        layer.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True)
    assert network(image)[0, target] > 0
    # captum keeps the final bias in its output but not in its shares, as we do
    assert close(found, attr.LRP(network).attribute(image.requires_grad_(), target=target)[0].detach())


@pytest.mark.parametrize(
    ("name", "conservation"),
    [("resnet18", 0.02), ("resnet50", 0.02), ("squeezenet1_1", 0.02), ("googlenet", 0.02), ("mobilenet_v2", None)],
)
def test_lrp_and_deeplift_on_torchvision(name, conservation):
    settings = {"transform_input": True, "init_weights": True} if name == "googlenet" else {}
    network = explainable(torchvision_network(name, **settings), picture())
    target = int(network.model(picture()).argmax())
    lift = interpretation.deeplift(network, picture(), target)
    assert lift.checks["relative_delta"] < 1e-3 and lift.warnings == ()
    relevance = interpretation.lrp(network, picture(), target)
    assert relevance.map.min() >= -1e-6 * relevance.map.max()  # a positive output's evidence is positive
    ruled = with_rules(network.model)
    assert close(ruled(picture()).detach(), network.model(picture()).detach())
    if conservation is None:  # depthwise kernels read few values: often only a bias switches a unit on
        assert relevance.checks["conservation"] < 1 and any(
            "biases kept the rest" in line for line in relevance.warnings
        )
    else:
        assert relevance.checks["conservation"] == pytest.approx(1, abs=conservation) and relevance.warnings == ()


class Odd(nn.Module):
    """A function that no method has a rule for, and no ReLU."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(torch.sinh(self.layer(x)).mean((2, 3)))


def test_what_has_no_rule_is_named_or_warned_of():
    network = explainable(randomised(Odd()), picture(24))
    with pytest.raises(CannotExplain, match="no sound rule for sinh"):
        interpretation.lrp(network, picture(24), FOUND_AT)
    assert any("off by" in line for line in interpretation.deeplift(network, picture(24), FOUND_AT).warnings)
    guided = interpretation.guided_backprop(network, picture(24), FOUND_AT)
    assert any("plain gradient" in line for line in guided.warnings)
    assert torch.allclose(guided.map, gradient(network.model, picture(24))[0])
