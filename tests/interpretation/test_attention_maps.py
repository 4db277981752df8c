"""Gradient rollout and LeGrad by their definitions; torchvision's and timm's transformers; who is refused."""

import pytest
import torch
from test_attention import SIZE, awake, swin, transformer
from torch import nn
from torch.nn import functional as F
from zoo import FOUND_AT, OF_ATTENTION, picture, small_convolutional

from spade_cli import interpretation
from spade_cli.interpretation import CannotExplain, SmoothedMethod, explainable
from spade_cli.interpretation.saliency.attention_maps import KeepAttention

GRID, HEADS, WIDTH, LAYERS = 3, 2, 8, 3


class Tiny(nn.Module):
    """A transformer of three layers whose attention can be looked at; it reads its class token, or the mean of all."""

    def __init__(self, fused, tokens):
        super().__init__()
        torch.manual_seed(0)
        self.fused, self.tokens = fused, tokens
        self.patches, self.head = nn.Conv2d(3, WIDTH, 4, 4), nn.Linear(WIDTH, 5)
        self.token = nn.Parameter(torch.randn(1, tokens, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.projections = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(LAYERS))
        for projection in self.projections:
            projection.weight.data *= 2
        self.kept, self.after = [], []

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        for norm, projection in zip(self.norms, self.projections, strict=True):
            query, key, value = projection(norm(x)).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
            if self.fused:
                out = F.scaled_dot_product_attention(query, key, value)
            else:
                weights = (query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1)
                self.kept.append(weights)
                out = weights @ value
            x = x + out.transpose(1, 2).flatten(2)
            self.after.append(x)
        return self.read(x)

    def read(self, x):
        return self.head(x[:, 0] if self.tokens else x.mean(1))


def slow_rollout(network, image):
    """The definition, one head and one pair of tokens at a time."""
    network.kept.clear()
    output = network(image.clone().requires_grad_())[0, FOUND_AT]
    slopes = torch.autograd.grad(output, network.kept)
    kept = [weights.detach() for weights in network.kept]
    tokens = network.tokens + GRID * GRID
    relevance = torch.eye(tokens)
    for weights, slope in zip(kept, slopes, strict=True):
        passed = torch.zeros(tokens, tokens)
        for to in range(tokens):
            for source in range(tokens):
                both = [float(weights[0, head, to, source] * slope[0, head, to, source]) for head in range(HEADS)]
                passed[to, source] = sum(max(0.0, one) for one in both) / HEADS
        relevance = relevance + passed @ relevance
    relevance = relevance - torch.eye(tokens)
    row = relevance[0] if network.tokens else relevance.mean(0)
    return row[network.tokens :].view(1, 1, GRID, GRID)


def slow_legrad(network, image):
    """The definition, one layer, one head and one pair of tokens at a time."""
    network(image.clone().requires_grad_())
    tokens = network.tokens + GRID * GRID
    relevance = torch.zeros(tokens)
    for weights, after in zip(network.kept, network.after, strict=True):
        (slope,) = torch.autograd.grad(network.read(after)[0, FOUND_AT], weights, retain_graph=True)
        for head in range(HEADS):
            for to in range(tokens):
                for source in range(tokens):
                    relevance[source] += max(0.0, float(slope[0, head, to, source])) / (LAYERS * HEADS * tokens)
    return relevance[network.tokens :].view(1, 1, GRID, GRID)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("tokens", [1, 0])
def test_legrad_is_what_its_definition_says(fused, tokens):
    image = picture(4 * GRID)
    expected = slow_legrad(Tiny(False, tokens), image)
    found = interpretation.legrad(explainable(Tiny(fused, tokens), image), image, FOUND_AT, interpolation="nearest")
    large = F.interpolate(expected, size=image.shape[2:], mode="nearest")[0].expand(3, -1, -1)
    assert torch.allclose(found.map, large, atol=1e-4 * large.max().item()) and found.map.max() > found.map.min() >= 0


@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_legrad_of_timms_blocks_reads_each_block_by_norm_and_head(pooling):
    timm = pytest.importorskip("timm")
    settings = {"img_size": SIZE, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 5}
    network = awake(timm.models.VisionTransformer(global_pool=pooling, class_token=True, **settings))
    found = interpretation.legrad(explainable(network, picture(SIZE)), picture(SIZE), FOUND_AT, interpolation="nearest")
    attention, after = [], []
    for block in network.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, args, output: attention.append(output))
        block.register_forward_hook(lambda module, args, output: after.append(output))
    network(picture(SIZE).requires_grad_())
    relevance = torch.zeros(1 + (SIZE // 8) ** 2)
    for weights, tokens in zip(attention, after, strict=True):
        score = network.forward_head(network.norm(tokens))[0, FOUND_AT]
        (slope,) = torch.autograd.grad(score, weights, retain_graph=True)
        relevance += slope[0].clamp(min=0).mean((0, 1)) / 3
    expected = relevance[1:].view(SIZE // 8, -1).repeat_interleave(8, 0).repeat_interleave(8, 1)
    assert torch.allclose(found.map, expected.expand(3, -1, -1), atol=1e-4 * expected.max().item())
    assert found.map.max() > found.map.min() >= 0


def test_legrad_refuses_layers_that_do_not_add_to_their_tokens():
    class Replaces(Tiny):
        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            query, key, value = (
                self.projections[0](self.norms[0](x)).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
            )
            return self.read(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))

    network = explainable(Replaces(True, 0), picture(4 * GRID))
    assert interpretation.gradient_rollout(network, picture(4 * GRID), FOUND_AT).map.any()
    with pytest.raises(CannotExplain, match="legrad needs layers that add to their tokens"):
        interpretation.legrad(network, picture(4 * GRID), FOUND_AT)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("tokens", [1, 0])
def test_gradient_rollout_is_what_its_definition_says(fused, tokens):
    image = picture(4 * GRID)
    expected = slow_rollout(Tiny(False, tokens), image)
    found = interpretation.gradient_rollout(
        explainable(Tiny(fused, tokens), image), image, FOUND_AT, interpolation="nearest"
    )
    large = F.interpolate(expected, size=image.shape[2:], mode="nearest")[0].expand(3, -1, -1)
    assert torch.allclose(found.map, large, atol=1e-4 * large.max().item()) and found.map.max() > found.map.min() >= 0


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_several_images_in_one_pass_have_the_maps_of_each_alone(name):
    image, method = picture(4 * GRID), interpretation.METHODS[name]
    network = explainable(Tiny(True, 1), image)
    smooth = SmoothedMethod(method, 4, 0.1)([network], image, FOUND_AT)
    dice = torch.Generator().manual_seed(0)
    noise = 0.1 * (image.max() - image.min()) * torch.randn(4, *image.shape[1:], generator=dice)
    each = [method(network, image + one[None], FOUND_AT).map for one in noise]
    assert torch.allclose(smooth.map, sum(each) / 4, atol=1e-4 * smooth.map.max().item()) and smooth.samples == 4


@pytest.mark.parametrize(
    "settings", [{}, {"scale": 0.3}, {"attn_mask": torch.eye(4) == 0}, {"attn_mask": torch.eye(4)}]
)
def test_attention_in_three_steps_is_torchs(settings):
    query, key, value = torch.randn(3, 2, HEADS, 4, 6, generator=torch.Generator().manual_seed(0))
    with KeepAttention() as kept:
        found = F.scaled_dot_product_attention(query, key, value, **settings)
    assert torch.allclose(found, F.scaled_dot_product_attention(query, key, value, **settings), atol=1e-6)
    assert len(kept.weights) == 1 and torch.allclose(kept.weights[0].sum(-1), torch.ones(2, HEADS, 4))


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_torchvisions_transformer(name):
    found = interpretation.METHODS[name](explainable(transformer(), picture(SIZE)), picture(SIZE), FOUND_AT).map
    assert found.shape == (3, SIZE, SIZE) and found.max() > found.min() >= 0


@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_timms_transformer_is_the_same_fused_or_not(pooling):
    timm = pytest.importorskip("timm")
    settings = {"img_size": SIZE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    network = awake(timm.models.VisionTransformer(global_pool=pooling, class_token=True, **settings))
    maps = []
    for fused in (True, False):
        for block in network.blocks:
            block.attn.fused_attn = fused
        safe = explainable(network, picture(SIZE))
        maps.append(interpretation.gradient_rollout(safe, picture(SIZE), FOUND_AT).map)
    assert torch.allclose(*maps, atol=1e-4 * maps[0].max().item()) and maps[0].max() > maps[0].min() >= 0


@pytest.mark.parametrize("name", OF_ATTENTION)
@pytest.mark.parametrize(
    ("factory", "line"),
    [(small_convolutional, "this network has no attention"), (swin, "this network's is within windows")],
)
def test_other_networks_are_refused_in_one_line(factory, line, name):
    with pytest.raises(CannotExplain, match=f"{name} needs .*{line}"):
        interpretation.METHODS[name](explainable(factory(), picture(SIZE)), picture(SIZE), FOUND_AT)
