"""Relevance that passes through single channels: where in the image each looks, and which of them feed which.

LRP goes backwards from the answer to a layer. There it is set to zero in all channels but one, and goes on to the
pixels: the channel's map (concept relevance propagation, Achtibat et al. 2023, arXiv 2206.03208). The maps of all
channels of a layer sum to what LRP's whole map owes to that layer: to all of it, where no path goes around the layer.

Stopped at an earlier layer instead, the same relevance says how much of it each channel there has given. Paths that
pass another of the layers are left out: they are the matter of the channels there. So the relevance of a channel is
the sum of what channels of earlier layers gave to it straight, and of what came from the image straight.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad

from spade_cli.errors import UserError
from spade_cli.interpretation.channels import Channel, channel_axis
from spade_cli.interpretation.explanation import (
    CannotExplain,
    attribution_pass,
    check_one_image,
    prepare_image,
    require_rewrite,
    warn_of_checks,
)
from spade_cli.interpretation.rewrite.explainable import Explainable, free_sources
from spade_cli.interpretation.rewrite.layer_nodes import find_layer_nodes
from spade_cli.interpretation.saliency.lrp import insert_rules
from spade_cli.interpretation.saliency.lrp_followed import ScoreRule, follow, spreadable
from spade_cli.interpretation.saliency.lrp_rules import TokenRule
from spade_cli.networks.modes_and_seeds import ask_network, seed_generators

LRP, GRADIENT = RULES = ("lrp", "gradient")
AGREEMENT = 1e-3  # of the score: by how much the copy with rules may differ from the network, as in `lrp`


@dataclass(frozen=True)
class ChannelRelevance:
    """What passes through channels, in shares of the answer's score.

    rule: "lrp"; or "gradient", gradient x activation, where LRP has no rule for the network.
    share: by channel, how much of the score passes through it; passing: by layer, through all of its channels.
    maps: by channel, (3, H, W), float32 on the CPU; by LRP one sums to `share` times the score, less what class tokens
    keep.
    feeds: (channel, later channel): the share of what passes the later one that the first gave to it, straight, and
    so (channel, None) of the answer; pairs without any are left out.
    conservation: of the whole map, as in `lrp`. warnings: one line each.
    A channel of a layer that cannot be looked into is in none of them; `warnings` says why.
    """

    rule: str
    share: dict[Channel, float]
    passing: dict[str, float]
    maps: dict[Channel, Tensor]
    feeds: dict[tuple[Channel, Channel | None], float]
    conservation: float
    warnings: tuple[str, ...] = field(default=())


def follow_relevance(network: Explainable, image: Tensor, target: int, channels: Sequence[Channel]) -> ChannelRelevance:
    """Follow the relevance of a class's score through channels of its layers, to the pixels and to each other.

    image (1, 3, H, W), normalised; channels of layers of the network as it was given, none of them a direction.
    A question that is more than a class becomes an output before, by `ask_question`.
    Errors: CannotExplain where the network could not be rewritten, or its score is 0. UserError for a channel that is
    not there.
    """
    require_rewrite(network)
    check_one_image(image)
    image = prepare_image(network, image, target)
    nodes, lines = find_layer_nodes(network, image, list(dict.fromkeys(one.layer or "" for one in channels)))
    model, rule, notes = _insert_rules(network.model)
    left = {node.name for node in model.graph.nodes}
    lines += [
        f"layer '{layer}' is folded into the layer before it; ask for channels of that one"
        for layer, node in nodes.items()
        if node not in left
    ]
    taps = _insert_taps(
        model, {layer: node for layer, node in nodes.items() if node in left}, network, image.shape[-2:]
    )
    asked = [one for one in channels if one.layer in taps]
    with attribution_pass(model):
        whole = _Pass(model, taps, image, target, rule, cut=False)
        score = _check_score(network, image, target, whole.score)
        slopes = whole.slopes()
        passing = {layer: tap.sum_places(whole.amounts[layer] * slopes[layer]) for layer, tap in taps.items()}
        _check_channels(asked, passing)
        parts = [part / score for part in whole.sums_of_map()]
        # of a question's score each class's relevance was spread already: see `ScoreRule`
        spreads = rule == LRP and not any(isinstance(module, ScoreRule) for module in model.modules())
        scale = float(spreadable(torch.tensor(sum(parts)))) if spreads else 1.0
        maps = {one: map / scale for one, map in _follow_to_pixels(whole, slopes, asked).items()}
        cut = _Pass(model, taps, image, target, rule, cut=True)
        feeds = _follow_to_channels(cut, slopes, asked, score * scale)
    if rule == LRP:
        checks = {"conservation": sum(parts) / scale, "class_token": sum(parts[1:]) / scale}
        notes = (*notes, *warn_of_checks(LRP, {**checks, **({"followed": sum(parts)} if spreads else {})}))
    share = {one: float(passing[str(one.layer)][one.channel]) / (score * scale) for one in asked}
    totals = {layer: float(values.sum()) / (score * scale) for layer, values in passing.items()}
    return ChannelRelevance(rule, share, totals, maps, feeds, sum(parts) / scale, (*lines, *notes))


def _check_channels(channels: Sequence[Channel], passing: Mapping[str, Tensor]) -> None:
    """UserError for a channel that its layer does not have, or for a direction."""
    for one in channels:
        count = len(passing[str(one.layer)])
        if one.others or not 0 <= one.channel < count:
            raise UserError(f"channel {one.in_layer} of layer '{one.layer}' asked for; it has 0 to {count - 1}")


@free_sources()
def _insert_rules(model: nn.Module) -> tuple[fx.GraphModule, str, tuple[str, ...]]:
    """A copy of the rewritten network with LRP's rules; or without, and why."""
    assert isinstance(model, fx.GraphModule)
    try:
        return insert_rules(model), LRP, ()
    except CannotExplain as error:
        return copy.deepcopy(model), GRADIENT, (f"{error}; these are gradient x activation instead",)


class Tap(nn.Module):
    """Keeps a layer's output; `cut` ends the gradient's way there."""

    value: Tensor  # as it came
    passed: Tensor  # as the layers behind got it: to be asked for its gradient
    amount: Tensor  # what of the value comes from the image: times the gradient it is relevance; see `lrp`

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis, self.cut = axis, False

    def forward(self, value: Tensor) -> Tensor:  # noqa: D102
        primal, followed = forward_ad.unpack_dual(value)
        self.value, self.amount = value, (primal if followed is None else followed).detach()
        if not self.cut:
            self.passed = value
            return value
        self.passed = primal.detach().clone().requires_grad_()
        if followed is None:
            return self.passed
        passed: Tensor = forward_ad.make_dual(self.passed, self.amount)
        return passed

    def sum_places(self, values: Tensor) -> Tensor:
        """(1, ..., channels, ...) -> (channels,)."""
        return values.movedim(self.axis, 0).flatten(1).sum(1)

    def keep_one(self, values: Tensor, channel: int) -> Tensor:
        """The values of one channel, and zeros elsewhere."""
        kept = torch.zeros_like(values)
        kept.select(self.axis, channel).copy_(values.select(self.axis, channel))
        return kept


@free_sources()
def _insert_taps(
    model: fx.GraphModule, nodes: Mapping[str, str], network: Explainable, sides: Sequence[int]
) -> dict[str, Tap]:
    """Put a tap behind each of these nodes of the copy with rules, by layer; sides: the image's height and width."""
    given = dict((network.original or network.model).named_modules())
    by_name = {node.name: node for node in model.graph.nodes}
    taps = {}
    for number, (layer, name) in enumerate(nodes.items()):
        node = by_name[name]
        taps[layer] = Tap(channel_axis(node.meta["shape"], given[layer], sides))
        model.add_submodule(f"tap_{number}", taps[layer])
        with model.graph.inserting_after(node):
            tap = model.graph.call_module(f"tap_{number}", (node,))
        node.replace_all_uses_with(tap, delete_user_cb=lambda user, tap=tap: user is not tap)
    model.recompile()
    return taps


class _Pass:
    """One run of the copy with taps, to be asked for gradients as often as needed."""

    def __init__(
        self, model: fx.GraphModule, taps: Mapping[str, Tap], image: Tensor, target: int, rule: str, cut: bool
    ) -> None:
        self.taps = taps
        for tap in taps.values():
            tap.cut = cut
        self.image = image.clone().requires_grad_()
        # the way forward says how much of each value comes from the image; the ways back need no more than that
        following = forward_ad.dual_level() if rule == LRP else nullcontext()
        with torch.enable_grad(), following, seed_generators(0, image.device):
            self.score = model(follow(self.image))[0, target]
        self.tokens = [module.value for module in model.modules() if isinstance(module, TokenRule)]
        self.values = {layer: tap.value for layer, tap in taps.items()}
        self.passed = {layer: tap.passed for layer, tap in taps.items()}
        self.amounts = {layer: tap.amount for layer, tap in taps.items()}

    def slopes(self) -> dict[str, Tensor]:
        """The gradient of the score at each layer's output; times that, it is the relevance there."""
        return dict(zip(self.values, self.pull(self.score, list(self.values.values())), strict=True))

    def sums_of_map(self) -> list[float]:
        """Relevance of all pixels, and of each class token."""
        leaves = [self.image, *self.tokens]
        return [
            float((leaf.detach() * slope).sum())
            for leaf, slope in zip(leaves, self.pull(self.score, leaves), strict=True)
        ]

    @staticmethod
    def pull(output: Tensor, leaves: Sequence[Tensor], slope: Tensor | None = None) -> list[Tensor]:
        """The gradient of an output, weighed by a slope of its shape, at each leaf; zeros where it does not reach."""
        if not leaves or not output.requires_grad:
            return [torch.zeros_like(leaf) for leaf in leaves]
        found = torch.autograd.grad(output, leaves, slope, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(leaf) if one is None else one.detach() for leaf, one in zip(leaves, found, strict=True)
        ]


def _check_score(network: Explainable, image: Tensor, target: int, score: Tensor) -> float:
    """The score of the network as it is; CannotExplain where the copy has another, or where it is 0."""
    with torch.no_grad():
        expected = float(ask_network(network.model, image)[0, target])
    if expected == 0:
        raise CannotExplain("the score that is explained is exactly 0, so nothing is a share of it")
    if not abs(float(score.detach()) - expected) <= AGREEMENT * abs(expected):
        raise CannotExplain("lrp: the copy with rules computes something else than the network")
    return expected


def _follow_to_pixels(whole: _Pass, slopes: Mapping[str, Tensor], channels: Sequence[Channel]) -> dict[Channel, Tensor]:
    """The map of each channel, (3, H, W)."""
    maps = {}
    for one in channels:
        layer = str(one.layer)
        kept = whole.taps[layer].keep_one(slopes[layer], one.channel)
        (slope,) = whole.pull(whole.values[layer], [whole.image], kept)
        maps[one] = (whole.image.detach() * slope)[0].float().cpu()
        if not torch.isfinite(maps[one]).all():
            raise CannotExplain(f"the map of {one} has values that are not finite")
    return maps


def _follow_to_channels(
    cut: _Pass, slopes: Mapping[str, Tensor], channels: Sequence[Channel], score: float
) -> dict[tuple[Channel, Channel | None], float]:
    """How much of what passes a channel, or of the score (None), each channel before it gave straight."""
    layers = list(cut.taps)  # in the graph's order: a layer is fed by those before it
    feeds: dict[tuple[Channel, Channel | None], float] = {}

    def add_givers(to: Channel | None, passing: float, output: Tensor, slope: Tensor | None, givers: list[str]) -> None:
        found = cut.pull(output, [cut.passed[layer] for layer in givers], slope)
        for layer, gradient in zip(givers, found, strict=True):
            given = cut.taps[layer].sum_places(cut.amounts[layer] * gradient)
            for one in channels:
                if one.layer == layer and passing and given[one.channel]:
                    feeds[one, to] = float(given[one.channel]) / passing

    add_givers(None, score, cut.score, None, layers)
    for one in channels:
        layer = str(one.layer)
        slope = cut.taps[layer].keep_one(slopes[layer], one.channel)
        passing = float((slope * cut.amounts[layer]).sum())
        add_givers(one, passing, cut.values[layer], slope, layers[: layers.index(layer)])
    return feeds
