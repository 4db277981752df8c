"""Saliency by the last feature map: Grad-CAM, HiResCAM, guided Grad-CAM and Score-CAM.

n: images; C, h, w: channels and size of the feature map; H, W: size of an image.
"""

import copy

import torch
from captum import attr
from torch import Tensor, fx, nn
from torch.nn import functional as F

from spade_cli.errors import UserError
from spade_cli.interpretation.explanation import (
    CannotExplain,
    Explanation,
    attribution_pass,
    check_counts,
    for_one_image,
    make_explanation,
    make_explanations,
    prepare_image,
    prepare_images,
    require_rewrite,
)
from spade_cli.interpretation.rewrite.explainable import Explainable, free_sources
from spade_cli.interpretation.rewrite.feature_maps import mark_layer
from spade_cli.interpretation.saliency.gradients import warn_without_relu
from spade_cli.interpretation.saliency.turns import split_turns

# They enlarge a map without overshooting: bicubic interpolation makes negative values of positive ones.
INTERPOLATIONS = ("nearest", "bilinear")


@for_one_image
def guided_gradcam(
    network: Explainable, images: Tensor, target: int, *, interpolation: str = "nearest", layer: str | None = None
) -> list[Explanation]:
    """Guided backpropagation times Grad-CAM at the last feature map (Selvaraju et al. 2017, section 3.2).

    images: (n, 3, H, W), normalised. interpolation: how Grad-CAM is enlarged to the image; SPADE's paper used captum's
    default, "nearest". layer: the layer whose output is the feature map, by its dotted name in the user's network;
    None: the last one that `feature_maps.py` finds.
    Errors: UserError for an unknown interpolation, and for a layer without positions; CannotExplain where the network
    has no feature map of more than one position.
    """
    check_interpolation("guided_gradcam", interpolation)
    model, feature_map = _find_feature_map(network, "guided_gradcam", layer)
    images = prepare_images(network, images, target)
    with attribution_pass(model):
        products = attr.GuidedGradCam(model, feature_map).attribute(
            images, target=target, interpolate_mode=interpolation
        )  # (n, 3, H, W)
    return make_explanations("guided_gradcam", products, notes=warn_without_relu(network, "guided_gradcam"))


@for_one_image
def gradcam(
    network: Explainable, images: Tensor, target: int, *, interpolation: str = "bilinear", layer: str | None = None
) -> list[Explanation]:
    """Positive part of the feature map's channels, weighed by their mean gradients (Selvaraju et al. 2017, equation 2).

    Arguments and errors as of `guided_gradcam`.
    """
    check_interpolation("gradcam", interpolation)
    model, feature_map = _find_feature_map(network, "gradcam", layer)
    images = prepare_images(network, images, target)
    with attribution_pass(model):
        coarse = attr.LayerGradCam(model, feature_map).attribute(images, target=target)  # (n, 1, h, w)
    return make_explanations("gradcam", enlarge(coarse.clamp(min=0), images, interpolation))


@for_one_image
def hirescam(
    network: Explainable, images: Tensor, target: int, *, interpolation: str = "bilinear", layer: str | None = None
) -> list[Explanation]:
    """Positive part of the feature map times its gradient, summed over channels (Draelos and Carin 2020, equation 5).

    Unlike Grad-CAM's it is what each place adds to the output, if only linear layers and averages follow. Arguments and
    errors as of `guided_gradcam`.
    """
    check_interpolation("hirescam", interpolation)
    model, feature_map = _find_feature_map(network, "hirescam", layer)
    images = prepare_images(network, images, target)
    with attribution_pass(model):
        products = attr.LayerGradientXActivation(model, feature_map).attribute(images, target=target)  # (n, C, h, w)
    coarse = products.sum(1, keepdim=True).clamp(min=0)  # (n, 1, h, w)
    return make_explanations("hirescam", enlarge(coarse, images, interpolation))


def score_cam(
    network: Explainable, image: Tensor, target: int, *, batch_size: int = 16, layer: str | None = None
) -> Explanation:
    """Positive part of the feature map's channels, weighed by what the network sees through each (Wang et al. 2020).

    A channel, enlarged and stretched to [0, 1], uncovers a part of the image (1, 3, H, W). Its weight is the softmax,
    over the channels, of the output for what is uncovered (equations 1 and 2). Channels that are the same everywhere
    uncover nothing in particular and are left out. Of several networks that take turns, a channel's map is the mean of
    theirs, and each channel is shown to one of them. batch_size: channels at a time; layer: as of `guided_gradcam`.
    Errors: UserError for a layer without positions; CannotExplain where the network has no feature map.
    """
    check_counts("score_cam", batch_size=batch_size)
    places = [_find_feature_map(one, "score_cam", layer) for one in split_turns(network)]
    image = prepare_image(network, image, target)
    with attribution_pass(network.model), torch.no_grad():
        maps = torch.stack([_read_feature_map(model, module, image) for model, module in places]).mean(0)  # (C, h, w)
        maps = maps[maps.amax((1, 2)) > maps.amin((1, 2))]
        scores = [image.new_zeros(0)]
        for part in maps[:, None].split(batch_size):
            large = enlarge(part, image, "bilinear")  # (c, 1, H, W)
            low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
            scores.append(network.model(image * (large - low) / (high - low))[:, target])
        weights = torch.cat(scores).softmax(0)[:, None, None]  # (C, 1, 1)
        coarse = (weights * maps).sum(0)[None, None]  # (1, 1, h, w)
    return make_explanation("score_cam", enlarge(coarse, image, "bilinear").clamp(min=0))


def check_interpolation(method: str, interpolation: str) -> None:
    """UserError for a way to enlarge a map that there is not."""
    if interpolation not in INTERPOLATIONS:
        known = " or ".join(INTERPOLATIONS)
        raise UserError(f"{method}.interpolation={interpolation} is unknown; give {known}")


def _find_feature_map(network: Explainable, method: str, layer: str | None) -> tuple[nn.Module, nn.Module]:
    """The network, or a copy of it in which `layer` is marked, and the module whose output is the feature map."""
    require_rewrite(network)
    model, name = network.model, network.feature_map
    if layer is not None:
        assert isinstance(model, fx.GraphModule)
        with free_sources():
            model = copy.deepcopy(model)
            name = mark_layer(model, layer)
    if name is None:
        raise CannotExplain(f"{method} needs a spatial feature map before the classifier, and this network has none")
    return model, model.get_submodule(name)


def _read_feature_map(model: nn.Module, module: nn.Module, image: Tensor) -> Tensor:
    """The output (C, h, w) of one of the model's modules for an image (1, 3, H, W)."""
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    try:
        model(image)
    finally:
        handle.remove()
    return seen[-1][0]


def enlarge(coarse: Tensor, images: Tensor, interpolation: str) -> Tensor:
    """Maps (n, 1, h, w) at the size of the images: (n, 1, H, W)."""
    return F.interpolate(coarse.detach(), size=images.shape[-2:], mode=interpolation)
