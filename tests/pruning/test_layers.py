"""A layer as one matrix: weight_matrix @ input_matrix^T must be the layer's own output, for every kind of layer."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torchvision import models

from spade_cli.networks.calls import watch_calls
from spade_cli.pruning.layers import block_of, find_layers, input_matrix, weight_matrix

CONVOLUTIONS = {
    "plain": dict(kernel_size=3),
    "strided": dict(kernel_size=3, stride=2, padding=1),
    "uneven": dict(kernel_size=(3, 5), stride=(2, 1), padding=(0, 2), dilation=(1, 2)),
    "dilated": dict(kernel_size=3, dilation=2, padding=2),
    "grouped": dict(kernel_size=3, groups=2, padding=1),
    "depthwise": dict(kernel_size=3, groups=4, padding=1),
    "pointwise": dict(kernel_size=1, stride=2),
    "same": dict(kernel_size=4, padding="same", dilation=(1, 3)),
    "valid": dict(kernel_size=2, padding="valid"),
    "reflect": dict(kernel_size=3, padding=(1, 2), padding_mode="reflect"),
    "circular": dict(kernel_size=(2, 3), padding="same", padding_mode="circular"),
}


def called(module, x):
    """The one call of a convolution or linear function that a module makes on x."""
    calls = []
    with watch_calls(lambda weight, call: calls.append(call)), torch.no_grad():
        module(x)
    (call,) = calls
    return call


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_is_a_matrix_product(name):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, **CONVOLUTIONS[name]).double()
    x = torch.randn(3, 4, 9, 11, dtype=torch.double)
    inputs = input_matrix(called(conv, x), None, torch.Generator())  # (g, n, c)
    product = inputs @ weight_matrix(conv).transpose(1, 2)  # (g, n, r)
    out = conv(x) - conv.bias[:, None, None]  # (N, g*r, H, W)
    expected = out.reshape(3, conv.groups, -1, out.shape[2] * out.shape[3]).permute(1, 0, 3, 2)  # (g, N, P, r)
    torch.testing.assert_close(product, expected.reshape(product.shape))


@pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 5), (2, 3, 4, 5)])
def test_linear_is_a_matrix_product(shape):
    linear = nn.Linear(5, 6)
    x = torch.randn(shape)
    inputs = input_matrix(called(linear, x), None, torch.Generator())
    torch.testing.assert_close((inputs @ weight_matrix(linear).mT)[0], (linear(x) - linear.bias).reshape(-1, 6))


@pytest.mark.parametrize(
    "layer, x", [(nn.Conv2d(2, 3, 3), torch.randn(4, 2, 8, 8)), (nn.Linear(5, 2), torch.randn(4, 9, 5))]
)
def test_sampled_observations_are_distinct_ones_of_all(layer, x):
    every = input_matrix(called(layer, x), None, torch.Generator())[0]
    some = input_matrix(called(layer, x), 12, torch.Generator().manual_seed(0))[0]
    assert len(some) == 12
    matches = (some[:, None] == every[None]).all(2)  # which observation each one is
    assert matches.any(1).all() and matches.sum(0).max() == 1
    again = input_matrix(called(layer, x), 12, torch.Generator().manual_seed(0))[0]
    other = input_matrix(called(layer, x), 12, torch.Generator().manual_seed(1))[0]
    assert torch.equal(some, again) and not torch.equal(some, other)


def test_asking_for_more_than_there_is_gives_all():
    layer, x = nn.Conv2d(2, 3, 3), torch.randn(4, 2, 5, 5)
    assert input_matrix(called(layer, x), 1000, torch.Generator()).shape == (1, 4 * 9, 18)


def test_kernel_is_a_run_of_columns():
    conv = nn.Conv2d(4, 2, (2, 3))
    assert block_of(conv) == 6 and block_of(nn.Linear(3, 2)) == 1
    torch.testing.assert_close(weight_matrix(conv)[0, 1, 6:12], conv.weight[1, 1].flatten())


def test_stem_and_depthwise_are_left_and_attention_is_not():
    reasons = {layer.name: layer.reason for layer in find_layers(models.mobilenet_v2(weights=None))}
    assert reasons["features.0.0"] == "stem: the first convolution"
    assert reasons["features.1.conv.0.0"] == "depthwise"
    assert reasons["features.2.conv.0.0"] is None and reasons["classifier.1"] is None
    vit = {layer.name: layer for layer in find_layers(models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3))}
    assert vit["heads.head"].reason is None and vit["conv_proj"].reason.startswith("stem")
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert list(vit)[1:3] == [f"{attention}.in_proj", f"{attention}.out_proj"]
    assert vit[f"{attention}.in_proj"].kind == "attention projection" and vit[f"{attention}.in_proj"].shape == (24, 8)
    assert all(layer.reason is None for name, layer in vit.items() if name != "conv_proj")


def test_other_convolutions_and_parametrized_weights_are_not_supported():
    model = nn.Sequential(
        nn.Conv3d(3, 4, 3), nn.ConvTranspose2d(2, 2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    )
    layers = {layer.name: layer for layer in find_layers(model)}
    assert not any(layer.supported for layer in layers.values())
    assert (
        "Conv3d" in layers["0"].reason
        and "ConvTranspose2d" in layers["1"].reason
        and "computed anew" in layers["2"].reason
    )


def test_resnet50_has_the_papers_layers():
    layers = find_layers(models.resnet50(weights=None))
    assert len(layers) == 54 and [layer.name for layer in layers if layer.reason] == ["conv1"]
    assert sum(layer.parameters for layer in layers) == 25_502_912  # the paper's network without biases and BatchNorm


@pytest.mark.parametrize("hook", [nn.utils.weight_norm, nn.utils.spectral_norm, lambda m: prune.identity(m, "weight")])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weights_that_a_hook_recomputes_are_not_supported(hook):
    """The next forward pass would undo the pruning."""
    layers = find_layers(nn.Sequential(nn.Conv2d(3, 4, 3), hook(nn.Conv2d(4, 4, 3))))
    assert not layers[1].supported and "computed anew" in layers[1].reason


def test_second_of_two_tied_layers_is_left_to_the_first():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    first, second = find_layers(model)
    assert first.reason is None and second.reason == "shares its weight with 0" and not second.supported
