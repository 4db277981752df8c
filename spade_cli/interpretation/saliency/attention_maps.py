"""Saliency by attention: which tokens the answer reads, through all layers of a transformer.

n: images; T: tokens; H, W: size of an image in pixels; h, w: the grid of the tokens that are patches.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from spade_cli.interpretation.explanation import (
    CannotExplain,
    Explanation,
    attribution_pass,
    for_one_image,
    make_explanations,
    prepare_images,
    require_rewrite,
)
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.interpretation.saliency.class_activation import check_interpolation, enlarge

SOFTMAXES: frozenset[Any] = frozenset({F.softmax, torch.softmax, Tensor.softmax})


@for_one_image
def gradient_rollout(
    network: Explainable, images: Tensor, target: int, *, interpolation: str = "bilinear"
) -> list[Explanation]:
    """Attention times its gradient, followed through all layers (Chefer et al. 2021b, equations 5 and 6).

    The paper is "Generic Attention-model Explainability", arXiv 2103.15679. Each layer adds the relevance R of the
    tokens that it reads: R becomes R + mean over the heads of max(0, attention x gradient) R. R starts as the identity,
    which is left out of the map again. The paper reads the class token's row. Here it is the mean over the rows that
    the answer depends on after the last attention, so that networks which average their patches have a map as well.

    images: (n, 3, H, W), normalised. interpolation: how the map (h, w) is enlarged, nearest or bilinear.
    Errors: UserError for an unknown interpolation; CannotExplain where the network has no attention among all patches.
    """
    check_interpolation("gradient_rollout", interpolation)
    require_rewrite(network)
    images = prepare_images(network, images, target)
    with attribution_pass(network.model):
        grids = watch_grid(network)
        with KeepAttention() as kept:
            outputs = network.model(images.requires_grad_())
        check_tokens("gradient_rollout", kept.weights, len(images), grids)
        found = torch.autograd.grad(outputs[:, target].sum(), kept.weights, allow_unused=True)
    slopes = [torch.zeros_like(w) if slope is None else slope for w, slope in zip(kept.weights, found, strict=True)]
    relevance = follow_attention([weights.detach() for weights in kept.weights], slopes)  # (n, T)
    return make_explanations("gradient_rollout", enlarge_patches(relevance, grids[-1], images, interpolation))


def follow_attention(weights: list[Tensor], slopes: list[Tensor]) -> Tensor:
    """The relevance of the first layer's tokens, (n, T), from each layer's attention and gradient (n, heads, T, T)."""
    read = (slopes[-1].abs().sum((1, 3)) > 0).to(weights[-1])  # (n, T): whether the answer depends on a token's row
    read = read / read.sum(1, keepdim=True).clamp(min=1)
    relevance = read
    for layer, slope in zip(reversed(weights), reversed(slopes), strict=True):
        passed = (layer * slope).clamp(min=0).mean(1)  # (n, T, T)
        relevance = relevance + (relevance[:, None] @ passed)[:, 0]
    return relevance - read


def watch_grid(network: Explainable) -> list[tuple[int, int]]:
    """A list to which each pass appends the grid (h, w) of the patches; it stays empty where there is none.

    The hook is removed by `attribution_pass`.
    """
    grids: list[tuple[int, int]] = []
    if network.feature_map is not None:
        place = network.model.get_submodule(network.feature_map)
        place.register_forward_hook(lambda module, args, output: grids.append(output.shape[-2:]))
    return grids


def enlarge_patches(relevance: Tensor, grid: tuple[int, int], images: Tensor, interpolation: str) -> Tensor:
    """The relevance of tokens (n, T), which end with the grid of patches, at the size of the images: (n, 1, H, W)."""
    height, width = grid
    return enlarge(relevance[:, -height * width :].unflatten(1, (1, height, width)), images, interpolation)


def check_tokens(method: str, weights: list[Tensor], images: int, grids: list[tuple[int, int]]) -> None:
    """CannotExplain unless every layer's attention is among all tokens, which end with the grid of patches."""
    needs = f"{method} needs attention among all patches of the picture"
    if not weights:
        raise CannotExplain(f"{needs}, and this network has no attention")
    shapes = {(layer.shape[0], *layer.shape[-2:]) for layer in weights}
    tokens = weights[0].shape[-1]
    if shapes != {(images, tokens, tokens)} or not grids or not 1 < grids[-1][0] * grids[-1][1] <= tokens:
        raise CannotExplain(f"{needs}; this network's is within windows, or between tokens of several numbers")


class KeepAttention(TorchFunctionMode):
    """Inside the `with`, keeps the attention weights (n, heads, T, T) of each layer, in the order of the calls.

    torch's fused attention, which hides its weights, is computed in its three steps instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call one function of torch."""
        settings = kwargs or {}
        if func is F.scaled_dot_product_attention and not (settings.get("is_causal") or settings.get("enable_gqa")):
            weights = find_weights(*args, **settings)
            self.weights.append(weights)
            return weights @ (args[2] if len(args) > 2 else settings["value"])
        output = func(*args, **settings)
        if func in SOFTMAXES and output.dim() == 4 and output.shape[-1] == output.shape[-2]:
            self.weights.append(output)
        return output


def find_weights(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
                 is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False) -> Tensor:  # fmt: skip
    """The weights of F.scaled_dot_product_attention, (n, heads, T, T), from its arguments; in eval mode none drops."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1)
