"""Attention, gates and normalisation: LRP conserves, DeepLift adds up, Grad-CAM finds the grid, channels are found."""

import pytest
import torch
from torch import nn
from torchvision import models
from zoo import picture, randomised

from spade_cli import interpretation
from spade_cli.errors import UserError
from spade_cli.interpretation import Channel, check_channels, explainable, visualize
from spade_cli.interpretation.rewrite.rewrite_graph import Multihead
from spade_cli.interpretation.saliency.deeplift_rules import DifferenceRules
from spade_cli.interpretation.saliency.lrp_rules import AttentionRule, TokenRule

SIZE = 32


def awake(network):
    """No parameter that starts at zero, and signals that depend on the picture."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def transformer():
    return awake(models.VisionTransformer(SIZE, 8, 2, 2, 16, 32, num_classes=5))


def swin():
    return awake(models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=5))


def convnext():
    return awake(
        models.ConvNeXt(
            [models.convnext.CNBlockConfig(8, 16, 1), models.convnext.CNBlockConfig(16, None, 1)], num_classes=5
        )
    )


class Gates(nn.Module):
    """Squeeze-and-excitation with SiLU, GroupNorm, an activation of every kind, a product of two signals."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.squeeze, self.gate, self.head = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Linear(8, 5)

    def forward(self, x):
        x = nn.functional.silu(self.norm(self.stem(x)))
        x = x * torch.sigmoid(self.gate(nn.functional.gelu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = nn.functional.hardswish(x) * nn.functional.mish(x) + nn.functional.leaky_relu(x)
        return self.head(x.mean((2, 3)))


FAMILIES = {
    "transformer": (transformer, (1, 16, 4, 4)),
    "swin": (swin, (1, 16, 4, 4)),
    "convnext": (convnext, (1, 16, 4, 4)),
    "gates": (lambda: randomised(Gates()), (1, 8, SIZE, SIZE)),
}


@pytest.mark.parametrize(("make", "grid"), FAMILIES.values(), ids=FAMILIES)
def test_sums_hold_and_the_grid_is_found(make, grid):
    network = make()
    image = picture(SIZE)
    made = explainable(network, image)
    assert made.reason is None
    target = int(network(image).argmax())
    answer = network(image)[0, target].item()
    relevance = interpretation.lrp(made, image, target)
    assert relevance.checks["followed"] == pytest.approx(1, abs=0.01)
    token = relevance.checks.get("class_token", 0) * answer
    assert relevance.map.sum().item() + token == pytest.approx(answer, rel=0.01)
    lift = interpretation.deeplift(made, image, target)
    assert lift.checks["relative_delta"] < 1e-3 and lift.warnings == ()
    seen = []
    made.model.get_submodule(made.feature_map).register_forward_hook(lambda *args: seen.append(args[2]))
    assert torch.allclose(made.model(image), network(image), atol=1e-5)
    assert seen[0].shape == grid
    cams = [interpretation.guided_gradcam(made, image, target) for target in range(5)]
    assert any(
        cam.map.abs().max() > 0 for cam in cams
    )  # of random weights, some classes have nothing that speaks for them
    assert all(any("plain gradient" in line for line in cam.warnings) for cam in cams)


def test_relevance_of_attention_by_hand():
    """Attention weights are constants: a value gets relevance for its positive part of each positive output."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 3, 2) for _ in range(3))
    value.requires_grad_()
    output = AttentionRule()(query, key, value)
    asked = torch.randn(output.shape)
    (slope,) = torch.autograd.grad((output * asked).sum(), value)
    weights = (query @ key.mT / 2**0.5).softmax(-1)[0, 0]
    expected = torch.zeros(3, 2)
    for row in range(3):
        for channel in range(2):
            parts = weights[row] * value[0, 0, :, channel].detach()
            parts = parts.clamp(min=0) if parts.sum() >= 0 else parts.clamp(max=0)
            expected[:, channel] += parts / parts.sum() * (output * asked)[0, 0, row, channel].detach()
    assert torch.allclose((value * slope).detach()[0, 0], expected, atol=1e-5)


def test_a_class_token_of_zeros_can_get_relevance():
    """torchvision's class tokens start as zeros, and zero times any gradient would be no relevance."""
    rule = TokenRule()
    (rule(torch.tensor([0.0, 2.0])) * torch.tensor([3e6, 0.5])).sum().backward()
    assert (rule.value * rule.value.grad).tolist() == pytest.approx([3.0, 1.0])


@pytest.mark.parametrize("causal", [True, False])
def test_masked_attention_gives_no_relevance_to_what_it_does_not_see(causal):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 3, 2) for _ in range(3))
    value.requires_grad_()
    seen = torch.ones(3, 3).tril().bool() if causal else torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1]]).bool()
    masks = {"is_causal": True} if causal else {"attn_mask": seen}
    output = AttentionRule()(query, key, value, **masks)
    plain = nn.functional.scaled_dot_product_attention(query, key, value, **masks)
    assert torch.allclose(output, plain, atol=1e-6)
    for row in range(3):
        (slope,) = torch.autograd.grad(output[0, 0, row].sum(), value, retain_graph=True)
        assert not slope[0, 0, ~seen[row]].any() and slope[0, 0, seen[row]].any()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, :4] * x[:, 4:],
        lambda x: x.softmax(1),
        lambda x: nn.functional.layer_norm(x, (8,)),
        lambda x: nn.functional.group_norm(x.unsqueeze(2), 2).flatten(1),
        lambda x: nn.functional.normalize(x, dim=1),
        lambda x: x / x.exp().sum(1, keepdim=True),
        lambda x: torch.einsum("nc,nd->ncd", x, x).flatten(1),
        lambda x: x.log_softmax(1),
        lambda x: x.clamp(-0.5, max=0.7) + nn.functional.logsigmoid(x) + x.clamp_min(0.1),
        lambda x: nn.functional.prelu(x, torch.full((8,), 0.3, dtype=x.dtype)),
    ],
    ids=[
        *("product", "softmax", "layer_norm", "group_norm", "normalize", "division", "einsum"),
        *("log_softmax", "clamp", "prelu"),
    ],
)
def test_slopes_explain_the_whole_difference(function):
    """slope(image) . (image - baseline) is function(image) - function(baseline), whatever the function is made of."""
    torch.manual_seed(0)
    pair = torch.randn(2, 8, dtype=torch.double, requires_grad=True)
    with DifferenceRules():
        output = function(pair)
    assert torch.allclose(output, function(pair))
    for unit in range(output.shape[1]):
        (slope,) = torch.autograd.grad(output[0, unit], pair, retain_graph=True)
        assert torch.allclose((slope[0] * (pair[0] - pair[1])).sum(), output[0, unit] - output[1, unit])
        assert not slope[1].any()


def test_attention_in_pieces_is_attention():
    torch.manual_seed(0)
    for bias in (True, False):
        layer, x = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True).eval(), torch.randn(3, 7, 8)
        assert torch.allclose(Multihead(layer)(x, x, x)[0], layer(x, x, x)[0], atol=1e-6)


def test_the_layer_of_gradcam_can_be_chosen():
    network, image = transformer(), picture(SIZE)
    made = explainable(network, image)
    by_layer = interpretation.guided_gradcam(made, image, 1, layer="encoder.layers.encoder_layer_1.ln_1")
    assert torch.allclose(by_layer.map, interpretation.guided_gradcam(made, image, 1).map)  # what is found by itself
    other = interpretation.guided_gradcam(made, image, 1, layer="conv_proj")
    assert not torch.allclose(other.map, by_layer.map)
    with pytest.raises(UserError, match=r"cam_layer=heads gives \(1, 5\).*positions"):
        interpretation.guided_gradcam(made, image, 1, layer="heads")


@pytest.mark.parametrize(
    ("make", "layer", "count"),
    [
        (transformer, "encoder.layers.encoder_layer_0.self_attention.in_proj", 48),
        (transformer, "encoder.layers.encoder_layer_0.self_attention.out_proj", 16),
        (transformer, "encoder.layers.encoder_layer_1.mlp.0", 32),
        (swin, "features.1.0.attn.qkv", 24),
        (swin, "features.1", 8),
        (convnext, "features.1.0.block.3", 32),
    ],
)
def test_channels_of_every_kind_of_layer_can_be_visualized(make, layer, count):
    network = make()
    check_channels(network, picture(SIZE), [Channel(layer, count - 1)])
    with pytest.raises(UserError, match=f"channels 0 to {count - 1}"):
        check_channels(network, picture(SIZE), [Channel(layer, count)])
    targets = [Channel(layer, 0), Channel(None, 1)]
    made = visualize([network], targets, size=SIZE, mean=(0, 0, 0), std=(1, 1, 1), steps=2)
    alone = visualize([network], targets[:1] * 2, size=SIZE, mean=(0, 0, 0), std=(1, 1, 1), steps=2)
    assert torch.allclose(made[0], alone[0], atol=1e-4)  # a picture climbs its own rows only
