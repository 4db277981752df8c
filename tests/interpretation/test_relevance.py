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
from spade_cli.interpretation import CannotExplain, ask_question, explainable
from spade_cli.interpretation.saliency.deeplift_rules import DifferenceRules, softmax
from spade_cli.interpretation.saliency.lrp import insert_rules
from spade_cli.interpretation.saliency.lrp_followed import spreadable
from spade_cli.interpretation.saliency.lrp_rules import Call, MatmulRule, SumRule
from spade_cli.networks.question import Question


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
    assert found.checks["followed"] == pytest.approx(1, abs=1e-5)
    assert any("not positive" in line for line in found.warnings) == (sign < 0)


def test_lrp_of_a_sum_and_of_a_batch_norm():
    first, second = torch.tensor([10.0, 2.0], requires_grad=True), torch.tensor([-9.0, 6.0], requires_grad=True)
    slopes = torch.autograd.grad(SumRule()(first, second).sum(), (first, second))
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


def test_lrp_of_a_product_of_matrices():
    """Term by term: a term has its share of what its output's sign adds up to, and each factor half of it."""
    torch.manual_seed(0)
    first, second, relevance = torch.randn(3, 4), torch.randn(4, 2), torch.randn(3, 2)
    wanted_first, wanted_second = torch.zeros(3, 4), torch.zeros(4, 2)
    for row in range(3):
        for column in range(2):
            terms = first[row] * second[:, column]
            sign = terms.sum().sign()
            share = (sign * terms).clamp(min=0) / (sign * terms).clamp(min=0).sum() * relevance[row, column]
            wanted_first[row] += share / 2
            wanted_second[:, column] += share / 2
    leaves = first.requires_grad_(), second.requires_grad_()
    output = MatmulRule(Call(torch.matmul), (0, 1))(*leaves)
    assert close(output.detach(), (first @ second).detach())
    slopes = torch.autograd.grad((output * (relevance / output.detach())).sum(), leaves)
    assert close((first * slopes[0]).detach(), wanted_first) and close((second * slopes[1]).detach(), wanted_second)


class ResponseNormalised(nn.Module):
    """ConvNeXt V2's response normalisation: each channel by its norm over the mean of all channels' norms."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)
        self.weight, self.bias = nn.Parameter(torch.rand(6, 1, 1)), nn.Parameter(torch.zeros(6, 1, 1))

    def forward(self, x):
        x = self.layer(x).relu()
        norm = x.norm(p=2, dim=(2, 3), keepdim=True)
        return self.head(
            (x + torch.addcmul(self.bias, self.weight, x * (norm / (norm.mean(1, keepdim=True) + 1e-6)))).mean((2, 3))
        )


def test_response_normalisation_is_a_gate_to_lrp_and_a_function_to_deeplift():
    torch.manual_seed(0)
    network, image = ResponseNormalised().eval(), picture(12)
    assert interpretation.deeplift(explainable(network, image), image, FOUND_AT).checks["relative_delta"] < 1e-4
    network.layer.bias.data.zero_(), network.head.bias.data.zero_()
    safe = explainable(network, image)
    found = interpretation.lrp(safe, image, FOUND_AT)
    assert found.checks["followed"] == pytest.approx(1, abs=1e-4)
    with torch.no_grad():  # the same network with its gates as numbers: a scaled 1 x 1 convolution
        x = network.layer(image).relu()
        norm = x.norm(dim=(2, 3))[0]
        scale = 1 + network.weight.flatten() * norm / norm.mean()
    fixed = nn.Sequential(
        network.layer, nn.ReLU(), nn.Conv2d(6, 6, 1, groups=6, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    fixed[2].weight.data = scale.view(6, 1, 1, 1)
    fixed.append(network.head)
    assert close(found.map, interpretation.lrp(explainable(fixed, image), image, FOUND_AT).map)


@pytest.mark.parametrize("apart", [0.0, 1e-4, 1.0, 300.0, 5000.0])
def test_deeplifts_softmax_of_scores_far_apart(apart):
    """Slopes that sum to the difference of image and baseline, where exp() of the scores is 0 or infinite."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(3, 4, generator=generator)
    x = torch.stack([image, image + apart * torch.rand(3, 4, generator=generator)]).requires_grad_()
    found = softmax(x, -1)
    assert torch.allclose(found, x.softmax(-1), atol=1e-6)
    asking = torch.randn(3, 4, generator=generator)
    (slope,) = torch.autograd.grad((found[0] * asking).sum(), x)
    added = (slope[0] * (x[0] - x[1])).sum()
    assert added.item() == pytest.approx(
        (asking * (x[0].softmax(-1) - x[1].softmax(-1))).sum().item(), abs=max(1e-4, 1e-6 * apart)
    )


def test_calls_that_deeplift_has_no_rule_for_are_made_as_they_are():
    x = torch.rand(2, 4).requires_grad_()
    whole = torch.arange(4)
    with DifferenceRules():
        assert torch.equal(torch.div(whole, 2, rounding_mode="floor"), torch.tensor([0, 0, 1, 1]))
        assert torch.equal(torch.div(x * 8, x, rounding_mode="trunc"), torch.full((2, 4), 8.0).trunc())
        assert x.softmax(-1, dtype=torch.float64).dtype == torch.float64
        assert torch.norm(x, p=1, dim=1).shape == (2,) and torch.norm(x).dim() == 0
        out = torch.empty(4)
        assert torch.exp(x[0].detach(), out=out) is out and torch.equal(out, x[0].detach().exp())
        assert torch.pow(2, x).shape == torch.multiply(whole, other=x).shape == (2, 4)


WEIGHTS = (  # 3 pixels -> 6 units -> 4 units -> 3 classes
    torch.tensor([[1.0, -2, 0], [-1, -1, -1], [0, 3, 1], [2, 1, 0], [-1, -2, -3], [1, 1, 1]]),
    torch.tensor([[1.0, 2, -1, 0, 0, 1], [0, 1, 0, 0, 2, 0], [0, 0, 0, 0, 0, -1], [1, 0, 1, -1, 0, 0]]),
    torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 2], [0, 3, 0, 0]]),
)
BIASES = torch.tensor([0.0, 9, 0, -9, 8, 0.5]), torch.tensor([0.0, 0.5, 7, 0]), torch.tensor([0.3, 0.2, 0])
PIXELS = torch.tensor([1.0, 2.0, 0.5])


def biased_network(pixels=PIXELS):
    """Units that a bias alone switches on: 1 and 4 of the first layer, 2 of the second, and 1, which reads only those.

    Unit 3 is off. Class 2 reads only what no pixel speaks for.
    """
    layers = []
    for weight, bias in zip(WEIGHTS, BIASES, strict=True):
        layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.ReLU()]
        layers[-2].weight.data, layers[-2].bias.data = weight.clone(), bias.clone()
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *layers[:-1]).eval()
    return explainable(network, image := pixels.view(1, 3, 1, 1).expand(-1, -1, 2, 2).contiguous()), image


def same_sign(row, inputs, value):
    """A unit's contributions that have its value's sign, as positive numbers; 0 for the others."""
    sign = 1 if value >= 0 else -1
    return [max(0.0, float(weight * x) * sign) for weight, x in zip(row, inputs, strict=True)]


def slow_relevance(target, pixels=PIXELS):
    """The rule with shares, unit by unit: the relevance of the three pixels, and the share of the output."""
    inputs, outputs, shares = [pixels], [], [[1.0] * 3]
    for weight, bias in zip(WEIGHTS, BIASES, strict=True):
        outputs.append(weight @ inputs[-1] + bias)
        shares.append([])
        for row, value in zip(weight, outputs[-1], strict=True):
            parts = same_sign(row, inputs[-1], value)
            followed = sum(part * share for part, share in zip(parts, shares[-2], strict=True))
            shares[-1].append(followed / sum(parts) if sum(parts) else 0.0)
        inputs.append(outputs[-1].relu())
    relevance = [float(outputs[-1][target]) if unit == target else 0.0 for unit in range(3)]
    for number in (2, 1, 0):
        below = [0.0] * len(inputs[number])
        for row, value, of_unit in zip(WEIGHTS[number], outputs[number], relevance, strict=True):
            parts = same_sign(row, inputs[number], value)
            parts = [part * share for part, share in zip(parts, shares[number], strict=True)]
            for place, part in enumerate(parts):
                below[place] += part / sum(parts) * of_unit if of_unit and sum(parts) else 0.0
        relevance = below
    return torch.tensor(relevance), shares[-1][target]


@pytest.mark.parametrize("pixels", [PIXELS, torch.tensor([0.0, 0.0, 1.5]), torch.tensor([0.3, -1.0, 0.2])])
@pytest.mark.parametrize("target", [0, 1])
def test_what_biases_make_is_spread_over_what_the_image_makes(target, pixels):
    network, image = biased_network(pixels)
    expected, share = slow_relevance(target, pixels)
    found = interpretation.lrp(network, image, target)
    assert close(found.map.sum((1, 2)), expected) and found.warnings == ()
    assert found.checks["followed"] == pytest.approx(share, abs=1e-5) and share > 0.05
    assert found.checks["conservation"] == pytest.approx(1, abs=1e-5)


def test_an_output_of_biases_alone_and_one_of_nearly_nothing_else_are_flagged():
    network, image = biased_network()
    found = interpretation.lrp(network, image, 2)  # its only input reads units that biases alone switch on
    assert slow_relevance(2)[1] == 0 and not found.map.any()
    assert found.checks["conservation"] == found.checks["followed"] == 0
    assert any("sums to 0.0%" in line for line in found.warnings)
    assert any("only 0.0% of the output can be followed" in line for line in found.warnings)
    black, image = biased_network(torch.zeros(3))
    assert not interpretation.lrp(black, image, 0).map.any()
    shares = torch.tensor([0.5, 1.0, 1e-6, 0.0, -0.2, 1.5, float("nan")])
    # a sum that no sound rule can give is left as it is, so that conservation shows it
    assert spreadable(shares).tolist() == [0.5, 1, 1, 1, 1, 1, 1]


def test_each_class_of_a_contrast_has_its_own_share():
    network, image = biased_network()
    contrast, last = ask_question(network, Question(0, ((-2.0, 1),)))
    first, second = slow_relevance(0), slow_relevance(1)
    assert abs(first[1] - second[1]) > 0.1
    found = interpretation.lrp(contrast, image, last)
    assert close(found.map.sum((1, 2)), first[0] - 2 * second[0])
    assert found.checks == {"conservation": pytest.approx(1, abs=1e-5)}
    assert close(interpretation.lrp(contrast, image, 1).map.sum((1, 2)), second[0])


@torch.no_grad()
def test_biases_are_all_that_lrp_cannot_follow_in_depthwise_networks():
    network = torchvision_network("mobilenet_v3_small")
    before = interpretation.lrp(explainable(network, picture()), picture(), FOUND_AT).checks
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.zero_(), module.running_mean.zero_()
        elif getattr(module, "bias", None) is not None:
            module.bias.zero_()
    target = int(network(picture()).argmax())
    found = interpretation.lrp(explainable(network, picture()), picture(), target)
    assert before["followed"] < 0.95 and before["conservation"] == pytest.approx(1, abs=1e-4)
    assert found.checks["followed"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("name", "error"),
    [("resnet18", 0.02), ("resnet50", 0.02), ("squeezenet1_1", 0.02), ("googlenet", 0.02), ("mobilenet_v2", None)],
)
def test_lrp_and_deeplift_on_torchvision(name, error):
    settings = {"transform_input": True, "init_weights": True} if name == "googlenet" else {}
    network = explainable(torchvision_network(name, **settings), picture())
    target = int(network.model(picture()).argmax())
    lift = interpretation.deeplift(network, picture(), target)
    assert lift.checks["relative_delta"] < 1e-3 and lift.warnings == ()
    relevance = interpretation.lrp(network, picture(), target)
    assert relevance.map.min() >= -1e-6 * relevance.map.max()  # a positive output's evidence is positive
    ruled = insert_rules(network.model)
    assert close(ruled(picture()).detach(), network.model(picture()).detach())
    assert relevance.checks["conservation"] == pytest.approx(1, abs=1e-3) and relevance.warnings == ()
    if error is None:  # depthwise kernels read few values: often only a bias switches a unit on
        assert 0.05 < relevance.checks["followed"] < 0.95
    else:
        assert relevance.checks["followed"] == pytest.approx(1, abs=error)


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
