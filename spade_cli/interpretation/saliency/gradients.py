"""Saliency by gradients: saliency, input x gradient, guided backpropagation, integrated gradients, gradient SHAP."""

import torch
from captum import attr
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.interpretation.explanation import (
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
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.networks.modes_and_seeds import seed_generators


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
    return make_explanations("guided_backprop", gradients, notes=warn_without_relu(network, "guided_backprop"))


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


def warn_without_relu(network: Explainable, method: str) -> tuple[str, ...]:
    """A warning where the network has no ReLU: guided backpropagation changes nothing but ReLUs."""
    if any(isinstance(module, nn.ReLU) for module in network.model.modules()):
        return ()
    return (f"{method}: the network has no ReLU, so the guided gradient is the plain gradient",)
