"""Layer-wise relevance propagation, as gradient times input of a network with rules.

For a layer with inputs x, weights w and outputs z = sum of x_i w_i + b, relevance goes to the inputs in proportion to
their positive contributions (Bach et al. 2015, equation 60 with alpha = 1, beta = 0):

    R_i = (x_i w_i)+ / p * R,    p = sum over i of (x_i w_i)+

Each layer is replaced with one that computes p * constant(z / p). It has the same outputs (a bias alone is added as a
constant), and gradients such that x_i * gradient_i is R_i. Gradient times input of the whole network is then the
relevance of the pixels (Ancona et al. 2018, proposition 1). Today's networks need these rules as well:

- A BatchNorm is folded into the convolution before it. One that cannot be folded passes its relevance on unchanged, as
  LayerNorm, GroupNorm and elementwise activations with f(0) = 0 do (identity rule of Achtibat et al. 2024, AttnLRP).
- The relevance of a bias is spread over the inputs, and so is that of a constant that is added (a position embedding).
  With folded BatchNorms a bias would absorb nearly everything, and conservation would check nothing.
- A unit that is positive through its bias alone (p = 0) is a constant to these rules, and so is the part of any other
  value that comes from such units. As every constant's, its relevance is spread over what comes from the image. Let f_i
  be the share of x_i that comes from the image: 1 for pixels and class tokens, the sum of (x_i w_i)+ f_i / p for a
  layer's output, 0 where p = 0. Then

      R_i = (x_i w_i)+ f_i / q * R,    q = sum over i of (x_i w_i)+ f_i

  which conserves relevance wherever q > 0, so in every unit that gets any. By induction from the output, this R_i is
  f_i / f times what the rule without f gives, f being the output's share. So no pass has to know any f but the
  output's, which is what the rule without f conserves: its map is divided by that (`followed`). The map's order of
  pixels stays; where a question weighs several classes, each class's relevance has its own f.
- A negative output is shared among its negative contributions. Behind a ReLU no negative output has relevance, so there
  the rule is the one above. It matters for linear bottlenecks (MobileNetV2), residual sums without ReLU, and negative
  logits.
- The output of a softmax, a sigmoid or a norm that weighs a signal (attention, squeeze-and-excitation, ConvNeXt V2's
  response normalisation) is a constant weight: relevance goes to the signal (Arras et al. 2017; Ali et al. 2022). Other
  products of two signals, elementwise or of matrices, give half to each (Achtibat et al. 2024).
- A class token gets its share like any token, and keeps it. `class_token` says how much that is.
"""

import copy
import gc
from contextlib import nullcontext

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spade_cli.interpretation.explanation import (
    CannotExplain,
    Explanation,
    attribution_pass,
    for_one_image,
    make_explanation,
    prepare_images,
    require_rewrite,
)
from spade_cli.interpretation.rewrite.explainable import Explainable, free_sources
from spade_cli.interpretation.rewrite.rewrite_graph import module_of, replace_call
from spade_cli.interpretation.saliency.lrp_choice import KEEP, choose_rule, name_call
from spade_cli.interpretation.saliency.lrp_flow import find_flow
from spade_cli.interpretation.saliency.lrp_followed import ScoreRule, follow, spreadable
from spade_cli.interpretation.saliency.lrp_rules import TokenRule
from spade_cli.networks.modes_and_seeds import ask_network


@for_one_image
def lrp(network: Explainable, images: Tensor, target: int) -> list[Explanation]:
    """Relevance of each pixel for the target's output, by the rules above; images (n, 3, H, W).

    checks: `conservation` is the relevance of pixels and class token over the output, 1 when none was lost; `followed`,
    for a class, the share of the output that comes from them, over which the rest was spread; `class_token` the class
    token's part of the relevance, where there is one.
    Errors: CannotExplain, naming the layers, where the network has one without a rule.
    """
    require_rewrite(network)
    images = prepare_images(network, images, target)
    model = insert_rules(network.model)
    tokens = [module for module in model.modules() if isinstance(module, TokenRule)]
    # a class token is one tensor for all images, and so is its relevance
    parts = images.split(1 if tokens else len(images))
    found = [one for part in parts for one in _explain_part(network.model, model, tokens, part, target)]
    del model, tokens
    gc.collect()  # a GraphModule refers to itself: the copy, as large as the network, would stay for many more maps
    return found


def _explain_part(
    network: nn.Module, model: nn.Module, tokens: list[TokenRule], images: Tensor, target: int
) -> list[Explanation]:
    """Images (n, 3, H, W) in one pass of the model, a copy of the network with rules; n is 1 where there are tokens."""
    images = images.clone().requires_grad_()
    asks = any(isinstance(module, ScoreRule) for module in model.modules())
    with attribution_pass(model), torch.enable_grad(), forward_ad.dual_level() if asks else nullcontext():
        outputs = model(follow(images))[:, target]  # (n,)
        leaves = [images, *(token.value for token in tokens)]
        slopes = torch.autograd.grad(outputs.sum(), leaves, allow_unused=True)
    with torch.no_grad():
        expected = ask_network(network, images)[:, target]  # (n,)
    if ((outputs - expected).abs() > 1e-3 * expected.abs().clamp(min=1e-6)).any():
        raise CannotExplain("lrp: the copy with rules computes something else than the network")
    relevance, *kept = (
        torch.zeros_like(leaf) if slope is None else leaf.detach() * slope
        for leaf, slope in zip(leaves, slopes, strict=True)
    )
    return [_explain_one(one, kept, output, asks) for one, output in zip(relevance, expected.tolist(), strict=True)]


def _explain_one(relevance: Tensor, kept: list[Tensor], output: float, asks: bool) -> Explanation:
    """Relevance (3, H, W), and that of each class token, by the rules without f -> spread; asks: it is so already."""
    parts = [relevance.sum().item(), sum(token.sum().item() for token in kept)]
    shares = torch.tensor(parts, dtype=torch.float64) / (output or float("nan"))
    followed = shares.sum()
    scale = torch.ones(()) if asks else spreadable(followed)
    checks = {"conservation": (followed / scale).item()}
    if not asks:
        checks["followed"] = followed.item()
    if kept:
        checks["class_token"] = (shares[1] / scale).item()
    return make_explanation("lrp", relevance[None] / scale.item(), checks, _warn_of_sign(output))


def _warn_of_sign(output: float) -> tuple[str, ...]:
    if output > 0:
        return ()
    return (f"lrp: the class's output is not positive ({output:.3g}), so relevance is negative: evidence against it",)


@free_sources()
def insert_rules(model: nn.Module) -> fx.GraphModule:
    """A rewritten network (`Explainable.model`) -> the same with rules: gradient times input is its relevance.

    CannotExplain where a call that relevance passes through has no rule.
    """
    assert isinstance(model, fx.GraphModule)
    network = copy.deepcopy(model)
    _fold_batch_norms(network)
    flow = find_flow(network)
    without_rule = set()
    for node in list(network.graph.nodes):
        if node.op in ("placeholder", "output", "get_attr"):
            continue
        if (rule := choose_rule(network, node, flow)) is None:
            without_rule.add(name_call(network, node))
        elif rule is not KEEP:
            replace_call(network, node, rule, inputs=None)
    if without_rule:
        raise CannotExplain(f"lrp has no sound rule for {', '.join(sorted(without_rule))}")
    network.recompile()
    return network


def _fold_batch_norms(network: fx.GraphModule) -> None:
    """Fold each BatchNorm into the convolution before it, where only the BatchNorm reads that convolution."""
    calls = [str(node.target) for node in network.graph.nodes if node.op == "call_module"]
    for node in list(network.graph.nodes):
        norm = module_of(network, node)
        before = node.all_input_nodes[0] if node.all_input_nodes else None
        if not isinstance(norm, nn.BatchNorm2d) or before is None or len(before.users) > 1:
            continue
        convolution = module_of(network, before)
        if isinstance(convolution, nn.Conv2d) and norm.track_running_stats and calls.count(str(before.target)) == 1:
            replace_call(network, before, fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
