"""DeepLift: the difference from a baseline's output, by slopes instead of gradients."""

import torch
from captum import attr
from captum.attr._core.deep_lift import nonlinear
from torch import Tensor, nn

from spade_cli.interpretation.explanation import (
    Explanation,
    attribution_pass,
    compare_sums,
    for_one_image,
    make_explanations,
    prepare_images,
    require_rewrite,
)
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.interpretation.rewrite.rewrite_graph import ClippedReLU
from spade_cli.interpretation.saliency.deeplift_rules import DifferenceRules

# Captum's rescale rule is right for every elementwise nonlinearity; looked up by exact type, as captum does.
RESCALED = frozenset(
    {nn.ReLU, ClippedReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.GELU, nn.SiLU, nn.Hardswish}
    | {nn.Hardsigmoid, nn.Mish, nn.Hardtanh, nn.CELU, nn.SELU}
)


class _DeepLift(attr.DeepLift):
    """Captum's DeepLift, with a table of rules of our own.

    Captum's table belongs to the whole process, and other code may use it, in other threads as well: nothing is written
    into it. What is private to captum was seen in 0.9.
    """

    def _is_non_linear(self, module: nn.Module) -> bool:
        return type(module) in RESCALED

    def _backward_hook(self, module: nn.Module, grad_input: Tensor, grad_output: Tensor) -> Tensor:
        if not self.satisfies_attribute_criteria(module):
            raise RuntimeError(f"a {type(module).__name__} is called more than once")
        slopes: Tensor = nonlinear(module, module.input, module.output, grad_input, grad_output, eps=self.eps)
        del module.input, module.output
        return slopes


@for_one_image
def deeplift(network: Explainable, images: Tensor, target: int) -> list[Explanation]:
    """DeepLift, rescale rule, from a zero baseline, the mean colour (Shrikumar et al. 2017, section 3.5.1).

    The map sums to output(image) - output(baseline) where every nonlinear layer has a rule. Captum has those of
    activations, `deeplift_rules.py` those of maxima, products, softmax, attention and normalisation. A layer without a
    rule passes the plain gradient. The sum is then off, and a warning says by how much. images: (n, 3, H, W).
    """
    require_rewrite(network)
    images = prepare_images(network, images, target)
    with attribution_pass(network.model), DifferenceRules():
        contributions, deltas = _DeepLift(network.model).attribute(
            images, baselines=torch.zeros_like(images), target=target, return_convergence_delta=True
        )  # (n, 3, H, W), (n,)
    return make_explanations("deeplift", contributions, compare_sums(contributions, deltas))
