"""Saliency by the last feature map: Grad-CAM, HiResCAM and guided Grad-CAM.

n: images; C, h, w: channels and size of the feature map; H, W: size of an image.
"""

import copy

from captum import attr
from torch import Tensor, fx, nn
from torch.nn import functional as F

from spade_cli.errors import UserError
from spade_cli.interpretation.explanation import (
    CannotExplain,
    Explanation,
    attribution_pass,
    for_one_image,
    make_explanations,
    prepare_images,
    require_rewrite,
)
from spade_cli.interpretation.rewrite.explainable import Explainable, free_sources
from spade_cli.interpretation.rewrite.feature_maps import mark_layer
from spade_cli.interpretation.saliency.gradients import warn_without_relu

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
    model, feature_map = _find_feature_map(network, "guided_gradcam", interpolation, layer)
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
    model, feature_map = _find_feature_map(network, "gradcam", interpolation, layer)
    images = prepare_images(network, images, target)
    with attribution_pass(model):
        coarse = attr.LayerGradCam(model, feature_map).attribute(images, target=target)  # (n, 1, h, w)
    return make_explanations("gradcam", _enlarge(coarse.clamp(min=0), images, interpolation))


@for_one_image
def hirescam(
    network: Explainable, images: Tensor, target: int, *, interpolation: str = "bilinear", layer: str | None = None
) -> list[Explanation]:
    """Positive part of the feature map times its gradient, summed over channels (Draelos and Carin 2020, equation 5).

    Unlike Grad-CAM's it is what each place adds to the output, if only linear layers and averages follow. Arguments and
    errors as of `guided_gradcam`.
    """
    model, feature_map = _find_feature_map(network, "hirescam", interpolation, layer)
    images = prepare_images(network, images, target)
    with attribution_pass(model):
        products = attr.LayerGradientXActivation(model, feature_map).attribute(images, target=target)  # (n, C, h, w)
    coarse = products.sum(1, keepdim=True).clamp(min=0)  # (n, 1, h, w)
    return make_explanations("hirescam", _enlarge(coarse, images, interpolation))


def _find_feature_map(
    network: Explainable, method: str, interpolation: str, layer: str | None
) -> tuple[nn.Module, nn.Module]:
    """The network, or a copy of it in which `layer` is marked, and the module whose output is the feature map."""
    if interpolation not in INTERPOLATIONS:
        known = " or ".join(INTERPOLATIONS)
        raise UserError(f"{method}.interpolation={interpolation} is unknown; give {known}")
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


def _enlarge(coarse: Tensor, images: Tensor, interpolation: str) -> Tensor:
    """Maps (n, 1, h, w) at the size of the images: (n, 1, H, W)."""
    return F.interpolate(coarse.detach(), size=images.shape[-2:], mode=interpolation)
