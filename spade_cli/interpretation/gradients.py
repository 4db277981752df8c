"""Saliency by gradients: saliency, input x gradient, DeepLift, guided ones, integrated gradients, gradient SHAP."""

import torch
import torch.nn.functional as F
from captum import attr
from captum.attr._core import deep_lift
from torch import Tensor, nn

from spade_cli.errors import UserError
from spade_cli.interpretation.explainable import Explainable
from spade_cli.interpretation.explanation import (
    DEEPLIFT_ERROR,
    INTEGRATION_ERROR,
    CannotExplain,
    Explanation,
    at_least_one,
    captum_on,
    completeness,
    explained,
    needs_safe_copy,
    output_difference,
    prepared,
)
from spade_cli.interpretation.randomness import seeded
from spade_cli.interpretation.rewriting import POOL_ARGUMENTS, ClippedReLU, MaxPool


def _max_pool_rule(
    module: MaxPool, inputs: Tensor, outputs: Tensor, grad_input: Tensor, grad_output: Tensor, eps: float = 1e-10
) -> Tensor:
    """DeepLift's multipliers of a max pooling; a batch is (image, baseline), as captum stacks them.

    What an output rose to is the doing of the image's maximum, what it fell from that of the baseline's. Captum's own
    rule undoes the pooling by max_unpool, which keeps one of several windows that share their maximum; these are added
    up.
    """
    out, out_baseline = outputs.chunk(2)
    top = torch.maximum(out, out_baseline)
    change = torch.cat([top - out_baseline, out - top])  # (2, C, h, w)
    settings = {key: getattr(module, key) for key in POOL_ARGUMENTS}
    where = F.max_pool2d(inputs, **settings, return_indices=True)[1]
    spread = torch.zeros_like(inputs).flatten(2)  # (2, C, H W)
    spread = spread.scatter_add(2, where.flatten(2), (grad_output * change).flatten(2)).view_as(inputs)
    contribution = sum(spread.chunk(2))
    delta = torch.sub(*inputs.chunk(2))
    multiplier = torch.where(delta.abs() < eps, grad_input.chunk(2)[0], contribution / delta)
    return torch.cat([multiplier, multiplier])


# Private to captum (seen in 0.9): its table of rules, looked up by exact type, and its rescale rule,
# which holds for any elementwise nonlinearity, ReLU6 included.
deep_lift.SUPPORTED_NON_LINEAR[ClippedReLU] = deep_lift.nonlinear
deep_lift.SUPPORTED_NON_LINEAR[MaxPool] = _max_pool_rule


# What enlarges a map without overshooting it: bicubic makes negative weights of positive ones.
INTERPOLATIONS = ("nearest", "bilinear")


def saliency(network: Explainable, image: Tensor, target: int) -> Explanation:
    """The gradient's absolute value (Simonyan et al. 2014, section 3); image (1, 3, H, W), normalised."""
    image = prepared(network, image, target)
    with captum_on(network.model):
        gradient = attr.Saliency(network.model).attribute(image, target=target, abs=True)  # (1, 3, H, W)
    return explained("saliency", gradient)


def input_x_gradient(network: Explainable, image: Tensor, target: int) -> Explanation:
    """Image times gradient (Shrikumar et al. 2016); image (1, 3, H, W), normalised."""
    image = prepared(network, image, target)
    with captum_on(network.model):
        product = attr.InputXGradient(network.model).attribute(image, target=target)  # (1, 3, H, W)
    return explained("input_x_gradient", product)


def deeplift(network: Explainable, image: Tensor, target: int) -> Explanation:
    """DeepLift, rescale rule, from a zero baseline, the mean colour (Shrikumar et al. 2017, section 3.5.1).

    The map sums to output(image) - output(baseline) where every nonlinear layer has a rule (ReLU, ReLU6, max pooling,
    sigmoid, tanh, ...). A layer without one (GELU, LayerNorm, attention) passes the plain gradient: the sum is then
    off, is measured, and warned of.
    """
    needs_safe_copy(network, "deeplift")
    image = prepared(network, image, target)
    with captum_on(network.model):
        contribution, delta = attr.DeepLift(network.model).attribute(
            image, baselines=torch.zeros_like(image), target=target, return_convergence_delta=True
        )  # (1, 3, H, W), (1,)
    difference = output_difference(network.model, image, target)
    checks, notes = completeness("deeplift", delta.item(), difference, DEEPLIFT_ERROR)
    return explained("deeplift", contribution, checks, notes)


def guided_backprop(network: Explainable, image: Tensor, target: int) -> Explanation:
    """The gradient with negative values stopped at every ReLU and ReLU6 (Springenberg et al. 2015, section 3.4)."""
    needs_safe_copy(network, "guided_backprop")
    image = prepared(network, image, target)
    with captum_on(network.model):
        gradient = attr.GuidedBackprop(network.model).attribute(image, target=target)  # (1, 3, H, W)
    return explained("guided_backprop", gradient, notes=_without_relu(network, "guided_backprop"))


def guided_gradcam(network: Explainable, image: Tensor, target: int, *, interpolation: str = "nearest") -> Explanation:
    """Guided backpropagation times Grad-CAM at the last spatial feature map (Selvaraju et al. 2017, section 3.2).

    interpolation: how Grad-CAM is enlarged to the image; captum's default, "nearest", is what SPADE's paper used.
    Errors: UserError for another interpolation; CannotExplain where no feature map of more than one position is pooled
    or flattened into the classifier.
    """
    if interpolation not in INTERPOLATIONS:
        known = " or ".join(INTERPOLATIONS)
        raise UserError(f"guided_gradcam.interpolation={interpolation} is unknown; give {known}")
    needs_safe_copy(network, "guided_gradcam")
    if network.feature_map is None:
        raise CannotExplain(
            "guided_gradcam needs a spatial feature map before the classifier, and this network has none"
        )
    image = prepared(network, image, target)
    layer = network.model.get_submodule(network.feature_map)
    with captum_on(network.model):
        product = attr.GuidedGradCam(network.model, layer).attribute(
            image, target=target, interpolate_mode=interpolation
        )  # (1, 3, H, W)
    return explained("guided_gradcam", product, notes=_without_relu(network, "guided_gradcam"))


def integrated_gradients(
    network: Explainable, image: Tensor, target: int, *, steps: int = 50, batch_size: int = 8
) -> Explanation:
    """Image times the gradient's mean on the way from the zero baseline (Sundararajan et al. 2017, equation 1).

    steps: points of the Gauss-Legendre quadrature; batch_size: points held in memory at a time.
    """
    at_least_one("integrated_gradients", steps=steps, batch_size=batch_size)
    image = prepared(network, image, target)
    with captum_on(network.model):
        contribution, delta = attr.IntegratedGradients(network.model).attribute(
            image,
            baselines=torch.zeros_like(image),
            target=target,
            n_steps=steps,
            internal_batch_size=batch_size,
            return_convergence_delta=True,
        )  # (1, 3, H, W), (1,)
    difference = output_difference(network.model, image, target)
    checks, notes = completeness("integrated_gradients", delta.item(), difference, INTEGRATION_ERROR)
    return explained("integrated_gradients", contribution, checks, notes)


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
    at_least_one("gradient_shap", samples=samples, batch_size=batch_size)
    if not 0 <= stdev < float("inf"):
        raise UserError(f"gradient_shap.stdev={stdev} is no standard deviation; give 0 or more")
    image = prepared(network, image, target)
    baselines = torch.cat([torch.zeros_like(image), image])  # (2, 3, H, W)
    total = torch.zeros_like(image)
    with captum_on(network.model), seeded(seed, image.device):
        for start in range(0, samples, batch_size):
            count = min(batch_size, samples - start)
            mean = attr.GradientShap(network.model).attribute(
                image, baselines=baselines, n_samples=count, stdevs=stdev, target=target
            )  # (1, 3, H, W)
            total += count * mean.detach()
    return explained("gradient_shap", total / samples)


def _without_relu(network: Explainable, method: str) -> tuple[str, ...]:
    """Guided backpropagation changes ReLUs only: without one, it is the plain gradient, and the reader has to know."""
    if any(isinstance(module, nn.ReLU) for module in network.model.modules()):
        return ()
    return (f"{method}: the network has no ReLU, so the guided gradient is the plain gradient",)
