"""Saliency by gradients: saliency, input x gradient, guided ones, integrated gradients, gradient SHAP."""

import copy

import torch
from captum import attr
from torch import Tensor, fx, nn

from spade_cli.errors import UserError
from spade_cli.interpretation.explanation import (
    CannotExplain,
    Explanation,
    attribution_pass,
    check_counts,
    compare_sums,
    for_one_image,
    make_explanation,
    make_explanations,
    prepare_image,
    prepare_images,
    require_rewrite,
)
from spade_cli.interpretation.rewrite.explainable import Explainable, free_sources
from spade_cli.interpretation.rewrite.feature_maps import mark_layer
from spade_cli.networks.modes_and_seeds import seed_generators

# They enlarge a map without overshooting: bicubic interpolation makes negative values of positive ones.
INTERPOLATIONS = ("nearest", "bilinear")


@for_one_image
def saliency(network: Explainable, images: Tensor, target: int) -> list[Explanation]:
    """The gradient's absolute value (Simonyan et al. 2014, section 3); images (n, 3, H, W), normalised."""
    images = prepare_images(network, images, target)
    with attribution_pass(network.model):
        gradients = attr.Saliency(network.model).attribute(images, target=target, abs=True)  # (n, 3, H, W)
    return make_explanations("saliency", gradients)


@for_one_image
def input_x_gradient(network: Explainable, images: Tensor, target: int) -> list[Explanation]:
    """Image times gradient (Shrikumar et al. 2016); images (n, 3, H, W), normalised."""
    images = prepare_images(network, images, target)
    with attribution_pass(network.model):
        products = attr.InputXGradient(network.model).attribute(images, target=target)  # (n, 3, H, W)
    return make_explanations("input_x_gradient", products)


@for_one_image
def guided_backprop(network: Explainable, images: Tensor, target: int) -> list[Explanation]:
    """The gradient with negative values stopped at every ReLU and ReLU6 (Springenberg et al. 2015, section 3.4)."""
    require_rewrite(network)
    images = prepare_images(network, images, target)
    with attribution_pass(network.model):
        gradients = attr.GuidedBackprop(network.model).attribute(images, target=target)  # (n, 3, H, W)
    return make_explanations("guided_backprop", gradients, notes=_warn_without_relu(network, "guided_backprop"))


@for_one_image
def guided_gradcam(
    network: Explainable, images: Tensor, target: int, *, interpolation: str = "nearest", layer: str | None = None
) -> list[Explanation]:
    """Guided backpropagation times Grad-CAM at the last feature map (Selvaraju et al. 2017, section 3.2).

    interpolation: how Grad-CAM is enlarged to the image; SPADE's paper used captum's default, "nearest".
    layer: the layer whose output is the feature map, by its dotted name in the user's network; None: the last one that
    `feature_maps.py` finds.
    Errors: UserError for an unknown interpolation, and for a layer without positions; CannotExplain where the network
    has no feature map of more than one position.
    """
    if interpolation not in INTERPOLATIONS:
        known = " or ".join(INTERPOLATIONS)
        raise UserError(f"guided_gradcam.interpolation={interpolation} is unknown; give {known}")
    require_rewrite(network)
    model, name = network.model, network.feature_map
    if layer is not None:
        assert isinstance(model, fx.GraphModule)
        with free_sources():
            model = copy.deepcopy(model)
            name = mark_layer(model, layer)
    if name is None:
        raise CannotExplain(
            "guided_gradcam needs a spatial feature map before the classifier, and this network has none"
        )
    images = prepare_images(network, images, target)
    with attribution_pass(model):
        products = attr.GuidedGradCam(model, model.get_submodule(name)).attribute(
            images, target=target, interpolate_mode=interpolation
        )  # (n, 3, H, W)
    return make_explanations("guided_gradcam", products, notes=_warn_without_relu(network, "guided_gradcam"))


def integrated_gradients(
    network: Explainable, image: Tensor, target: int, *, steps: int = 50, batch_size: int = 8
) -> Explanation:
    """Image times the gradient's mean on the way from the zero baseline (Sundararajan et al. 2017, equation 1).

    steps: points of the Gauss-Legendre quadrature; batch_size: points held in memory at a time.
    """
    check_counts("integrated_gradients", steps=steps, batch_size=batch_size)
    image = prepare_image(network, image, target)
    with attribution_pass(network.model):
        contribution, delta = attr.IntegratedGradients(network.model).attribute(
            image,
            baselines=torch.zeros_like(image),
            target=target,
            n_steps=steps,
            internal_batch_size=batch_size,
            return_convergence_delta=True,
        )  # (1, 3, H, W), (1,)
    return make_explanation("integrated_gradients", contribution, compare_sums(contribution, delta)[0])


def gradient_shap(
    network: Explainable,
    image: Tensor,
    target: int,
    *,
    samples: int = 50,
    stdev: float = 1e-4,
    batch_size: int = 8,
    seed: int = 0,
) -> Explanation:
    """Mean of (image - baseline) times gradient at random points between (Lundberg and Lee 2017).

    Baselines are zero and the image itself, as in SPADE's paper. stdev: noise on the image, in normalised units.
    batch_size: samples held in memory at a time; changing it changes the random numbers.
    """
    check_counts("gradient_shap", samples=samples, batch_size=batch_size)
    if not 0 <= stdev < float("inf"):
        raise UserError(f"gradient_shap.stdev={stdev} is no standard deviation; give 0 or more")
    image = prepare_image(network, image, target)
    baselines = torch.cat([torch.zeros_like(image), image])  # (2, 3, H, W)
    total = torch.zeros_like(image)
    with attribution_pass(network.model), seed_generators(seed, image.device):
        for start in range(0, samples, batch_size):
            count = min(batch_size, samples - start)
            mean = attr.GradientShap(network.model).attribute(
                image, baselines=baselines, n_samples=count, stdevs=stdev, target=target
            )  # (1, 3, H, W)
            total += count * mean.detach()
    return make_explanation("gradient_shap", total / samples)


def _warn_without_relu(network: Explainable, method: str) -> tuple[str, ...]:
    """A warning where the network has no ReLU: guided backpropagation changes nothing but ReLUs."""
    if any(isinstance(module, nn.ReLU) for module in network.model.modules()):
        return ()
    return (f"{method}: the network has no ReLU, so the guided gradient is the plain gradient",)
