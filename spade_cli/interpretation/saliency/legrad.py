"""LeGrad: how the score that each layer's own tokens would get changes with that layer's attention.

n: images; T: tokens; H, W: size of an image in pixels; h, w: the grid of the tokens that are patches.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, fx

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
from spade_cli.interpretation.rewrite.rewrite_graph import ADD, Add, module_of
from spade_cli.interpretation.saliency.attention_maps import KeepAttention, check_tokens, enlarge_patches, watch_grid
from spade_cli.interpretation.saliency.class_activation import check_interpolation


@for_one_image
def legrad(network: Explainable, images: Tensor, target: int, *, interpolation: str = "bilinear") -> list[Explanation]:
    """Slopes of the score by attention, one score for each layer (Bousselham et al. 2024, LeGrad, arXiv 2404.03214).

    A layer's score is the target's output if the network ended behind that layer: what follows the last layer (norm,
    pooling, head) reads this layer's tokens. The map is max(0, its gradient by the layer's attention weights), averaged
    over heads, over the rows (the tokens that read) and over the layers. Where the head reads a class token alone, only
    that token's row has a gradient.

    images: (n, 3, H, W), normalised. interpolation: how the map (h, w) is enlarged, nearest or bilinear.
    Errors: UserError for an unknown interpolation; CannotExplain where the network has no attention among all patches,
    or a layer that does not add to its tokens.
    """
    check_interpolation("legrad", interpolation)
    require_rewrite(network)
    images = prepare_images(network, images, target)
    assert isinstance(network.model, fx.GraphModule)
    with attribution_pass(network.model):
        grids = watch_grid(network)
        layers = Layers(network.model)
        with layers.kept:
            layers.run(images.requires_grad_())
        check_tokens("legrad", layers.kept.weights, len(images), grids)
        relevance = torch.zeros(len(images), layers.kept.weights[0].shape[-1], device=images.device)  # (n, T)
        for weights, score in zip(layers.kept.weights, layers.scores(target), strict=True):
            (slope,) = torch.autograd.grad(score.sum(), weights, retain_graph=True)  # (n, heads, T, T)
            relevance += slope.clamp(min=0).mean((1, 2)) / len(layers.kept.weights)
    return make_explanations("legrad", enlarge_patches(relevance, grids[-1], images, interpolation))


class Layers(fx.Interpreter):
    """Runs a rewritten network and keeps what every node computes, and behind which node each attention was made.

    kept: the attention weights, in the order of the calls.
    """

    def __init__(self, model: fx.GraphModule) -> None:
        super().__init__(model, garbage_collect_values=False)
        self.model = model
        self.kept = KeepAttention()
        self.nodes: list[fx.Node] = []  # with attention, one for each layer

    def run_node(self, n: fx.Node) -> Any:
        """Call one node."""
        before = len(self.kept.weights)
        value = super().run_node(n)
        self.nodes += [n] * (len(self.kept.weights) - before)
        return value

    def scores(self, target: int) -> list[Tensor]:
        """For each layer, the target's output (n,) if the network ended behind it."""
        order = list(self.model.graph.nodes)
        places = [*(order.index(node) for node in self.nodes), len(order)]
        ends = [self._end_of_layer(order[first:last]) for first, last in itertools.pairwise(places)]
        before_head = order[: order.index(ends[-1]) + 1]
        found = []
        for end in ends:
            values = {node: self.env[node] for node in before_head}
            head = fx.Interpreter(self.model)
            output = head.run(initial_env={**values, ends[-1]: self.env[end]})
            found.append(output[:, target])
        return found

    def _end_of_layer(self, nodes: list[fx.Node]) -> fx.Node:
        """The last of these nodes that adds to the tokens."""
        tokens = self.kept.weights[0].shape[-1]
        for node in reversed(nodes):
            value = self.env.get(node)
            adds = isinstance(module_of(self.model, node), Add) or (node.op != "call_module" and node.target in ADD)
            if adds and isinstance(value, Tensor) and value.dim() == 3 and value.shape[1] == tokens:
                return node
        raise CannotExplain(
            "legrad needs layers that add to their tokens (n, T, C); this network has one that does not"
        )
