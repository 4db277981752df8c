"""Grad-CAM, HiResCAM, guided Grad-CAM and Score-CAM against their definitions, restated slowly; other layers."""

import pytest
import torch
from torch import nn
from zoo import FOUND_AT, picture, small_convolutional

from spade_cli import interpretation
from spade_cli.errors import UserError
from spade_cli.interpretation import METHODS, CannotExplain, Explainable, explainable
from spade_cli.interpretation.saliency.turns import take_turns


@pytest.fixture(scope="module")
def small() -> Explainable:
    return explainable(small_convolutional(), picture(24))


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_guided_gradcam_is_guided_backprop_times_gradcam(small):
    image = picture(24)
    kept = []
    handle = small.model.get_submodule(small.feature_map).register_forward_hook(lambda *args: kept.append(args[2]))
    logit = small.model(image.clone().requires_grad_())[0, FOUND_AT]
    handle.remove()
    slope = torch.autograd.grad(logit, kept[0])[0]  # (1, C, h, w)
    cam = (slope.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu()
    cam = nn.functional.interpolate(cam, size=(24, 24), mode="nearest")[0]  # (1, 24, 24)
    guided = interpretation.guided_backprop(small, image, FOUND_AT).map
    assert close(interpretation.guided_gradcam(small, image, FOUND_AT).map, guided * cam.detach())
    vector = explainable(nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU()), picture(8))
    with pytest.raises(CannotExplain, match="spatial feature map"):
        interpretation.guided_gradcam(vector, picture(8), FOUND_AT)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_gradcam_and_hirescam_are_products_at_the_feature_map(small, interpolation):
    image, kept = picture(24), []
    handle = small.model.get_submodule(small.feature_map).register_forward_hook(lambda *args: kept.append(args[2]))
    logit = small.model(image.clone().requires_grad_())[0, FOUND_AT]
    handle.remove()
    slope = torch.autograd.grad(logit, kept[0])[0][0]  # (C, h, w)
    channels, height, width = slope.shape
    gradcam, hirescam = torch.zeros(height, width), torch.zeros(height, width)
    for channel in range(channels):
        activation = kept[0][0, channel].detach()
        gradcam += slope[channel].sum() / (height * width) * activation
        hirescam += slope[channel] * activation
    for name, coarse in (("gradcam", gradcam), ("hirescam", hirescam)):
        large = nn.functional.interpolate(coarse.clamp(min=0)[None, None], size=(24, 24), mode=interpolation)
        found = METHODS[name](small, image, FOUND_AT, interpolation=interpolation).map
        assert close(found, large[0].expand(3, -1, -1)) and found.min() >= 0
    assert not close(gradcam, hirescam)


def test_hirescam_of_an_average_is_gradcam():
    """Where only an average and a linear layer follow, the gradient is the same at every place."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    network = explainable(nn.Sequential(*layers), picture(12))
    found = [METHODS[name](network, picture(12), FOUND_AT).map for name in ("gradcam", "hirescam")]
    assert close(*found) and found[0].max() > 0


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "score_cam"])
def test_maps_of_another_layer(small, name):
    layer = METHODS[name](small, picture(24), FOUND_AT, layer="0").map
    assert not torch.equal(layer, METHODS[name](small, picture(24), FOUND_AT).map)
    if name != "score_cam":
        with pytest.raises(UserError, match=f"{name}.interpolation=cubic is unknown"):
            METHODS[name](small, picture(24), FOUND_AT, interpolation="cubic")
    vector = explainable(nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU()), picture(8))
    with pytest.raises(CannotExplain, match=f"{name} needs a spatial feature map"):
        METHODS[name](vector, picture(8), FOUND_AT)


def test_guided_gradcam_enlarges_as_asked(small):
    nearest, bilinear = (
        interpretation.guided_gradcam(small, picture(24), FOUND_AT, interpolation=how).map
        for how in ("nearest", "bilinear")
    )
    assert not torch.equal(nearest, bilinear)


def signed_network():
    """A network whose last feature map is negative in places, and has a channel that is the same everywhere."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    layers[0].weight.data[4] = 0
    return nn.Sequential(*layers).eval()


@torch.no_grad()
def slow_score_cam(networks, image):
    """The definition: a channel's map is the mean of the networks', and channel i is shown to network i modulo n."""
    seen = []
    for one in networks:
        place = one.model.get_submodule(one.feature_map)
        handle = place.register_forward_hook(lambda module, args, output: seen.append(output[0]))
        one.model(image)
        handle.remove()
    maps, scores, asked = [], [], 0
    for channel in sum(seen) / len(networks):
        large = nn.functional.interpolate(channel[None, None], size=image.shape[2:], mode="bilinear")[0, 0]
        if channel.max() == channel.min():
            continue
        cover, model = (large - large.min()) / (large.max() - large.min()), networks[asked % len(networks)].model
        whole = model(image)[0, FOUND_AT] if len(networks) > 1 else 0
        scores.append(model(image * cover)[0, FOUND_AT] - whole)
        maps.append(large)
        asked += 1
    weights = torch.stack(scores).softmax(0)
    return sum(weight * one for weight, one in zip(weights, maps, strict=True)).clamp(min=0)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("factory", [small_convolutional, signed_network])
def test_score_cam_is_what_its_definition_says(factory, count):
    networks = []
    for place in range(count):
        network = factory()
        network[0].weight.data *= 1 + place
        networks.append(explainable(network, picture(24)))
    found = interpretation.score_cam(take_turns(networks, picture(24)), picture(24), FOUND_AT, batch_size=4).map
    expected = slow_score_cam(networks, picture(24))
    assert expected.max() > 0 and close(found, expected.expand(3, -1, -1))


def test_several_networks_are_asked_about_one_layer(small):
    both = take_turns([small, small], picture(24))
    found = interpretation.score_cam(both, picture(24), FOUND_AT, layer="0").map
    assert close(found, interpretation.score_cam(small, picture(24), FOUND_AT, layer="0").map)
