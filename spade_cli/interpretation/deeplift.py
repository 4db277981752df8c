"""DeepLift: the difference from a baseline's output, by slopes instead of gradients."""

import torch
import torch.nn.functional as F
from captum import attr
from captum.attr._core import deep_lift
from torch import Tensor, nn

from spade_cli.interpretation.deeplift_rules import PairedRules
from spade_cli.interpretation.explainable import Explainable
from spade_cli.interpretation.explanation import (
    DEEPLIFT_ERROR,
    Explanation,
    captum_on,
    completeness,
    explained,
    needs_safe_copy,
    output_difference,
    prepared,
)
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
# which holds for any elementwise nonlinearity.
for _kind in (ClippedReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.Hardtanh, nn.CELU, nn.SELU):
    deep_lift.SUPPORTED_NON_LINEAR[_kind] = deep_lift.nonlinear
deep_lift.SUPPORTED_NON_LINEAR[MaxPool] = _max_pool_rule
# Its rule for softmax does not keep the sum; ours, in deeplift_rules.py, does.
deep_lift.SUPPORTED_NON_LINEAR[nn.Softmax] = lambda module, inputs, outputs, grad_input, grad_output, eps=0: grad_input


def deeplift(network: Explainable, image: Tensor, target: int) -> Explanation:
    """DeepLift, rescale rule, from a zero baseline, the mean colour (Shrikumar et al. 2017, section 3.5.1).

    The map sums to output(image) - output(baseline) where every nonlinear layer has a rule: activations and max pooling
    by captum, products, softmax, attention and normalisation by `deeplift_rules.py`. A layer without one passes the
    plain gradient: the sum is then off, is measured, and warned of.
    """
    needs_safe_copy(network, "deeplift")
    image = prepared(network, image, target)
    with captum_on(network.model), PairedRules():
        contribution, delta = attr.DeepLift(network.model).attribute(
            image, baselines=torch.zeros_like(image), target=target, return_convergence_delta=True
        )  # (1, 3, H, W), (1,)
    difference = output_difference(network.model, image, target)
    checks, notes = completeness("deeplift", delta.item(), difference, DEEPLIFT_ERROR)
    return explained("deeplift", contribution, checks, notes)
