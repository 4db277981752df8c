"""Weights that are multiplied with where no hook sees it, or not as they are: pruned, or left with a reason."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from spade_cli.networks.calls import watch_calls
from spade_cli.pruning import collect, find_layers, prune, schedule
from spade_cli.pruning.layers import input_matrix, layer_modules, weight_matrix
from spade_cli.pruning.solvers.sparsegpt import sparsegpt


class Padding(nn.Conv2d):
    """Pads by itself, as timm's Conv2dSame does: its settings do not say so."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 1, 2, 0)), self.weight, self.bias, self.stride)


class Standardised(nn.Conv2d):
    """Computes its weight anew, as networks without BatchNorm do."""

    def forward(self, x):
        return F.conv2d(x, self.weight / self.weight.std(), self.bias)


class Attending(nn.Module):
    """A stem, attention over the positions, a head."""

    def __init__(self, cross=False):
        super().__init__()
        self.stem, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head, self.auxiliary, self.cross = nn.Linear(8, 5), nn.Linear(8, 5), cross

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)  # (N, T, 8)
        query = x[:, :1] if self.cross else x
        return self.head(self.attention(query, x, x)[0].mean(1))


def calls_of(network, x):
    found = []
    with watch_calls(lambda weight, call: found.append((weight, call))), torch.no_grad():
        network.eval()(x)
    return found


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), nn.Conv1d(4, 6, 4, padding="same")]
)
def test_a_one_dimensional_convolution_is_a_matrix_product(layer):
    x = torch.randn(3, 4, 11)
    ((_, call),) = calls_of(layer, x)
    inputs = input_matrix(call, None, torch.Generator())  # (g, n, c)
    product = inputs @ weight_matrix(layer).mT  # (g, n, r)
    out = (layer(x) - layer.bias[:, None]).reshape(3, layer.groups, -1, product.shape[1] // 3)  # (N, g, r, P)
    torch.testing.assert_close(product, out.permute(1, 0, 3, 2).reshape(product.shape))


def test_a_layer_that_pads_by_itself_is_watched_where_it_multiplies():
    layer, x = Padding(4, 6, 3, stride=2), torch.randn(2, 4, 9, 9)
    ((_, call),) = calls_of(layer, x)
    product = input_matrix(call, None, torch.Generator()) @ weight_matrix(layer).mT
    out = (layer(x) - layer.bias[:, None, None]).permute(0, 2, 3, 1).reshape(product.shape)
    torch.testing.assert_close(product, out)


class Whole(nn.Module):
    """Self-attention alone."""

    def __init__(self, batch_first):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_attentions_projections_are_seen(batch_first):
    """in_proj sees the tokens, out_proj what attention makes of them: computed slowly from the definition."""
    torch.manual_seed(0)
    network = Whole(batch_first)
    inner, tokens = network.attention, torch.randn(2, 7, 8)  # (N, T, C)
    (weight, call), (_, after) = calls_of(network, tokens if batch_first else tokens.transpose(0, 1))
    assert weight is inner.in_proj_weight
    seen, made = (x.reshape(7, 2, 8).transpose(0, 1) for x in (call.x, after.x))
    assert torch.equal(seen, tokens)
    q, k, v = F.linear(tokens, inner.in_proj_weight, inner.in_proj_bias).chunk(3, -1)
    halves = (slice(0, 4), slice(4, 8))
    heads = [(q[..., half] @ k[..., half].mT / 2).softmax(-1) @ v[..., half] for half in halves]
    torch.testing.assert_close(made, torch.cat(heads, -1), atol=1e-5, rtol=1e-4)


def test_attention_is_pruned_and_what_is_not_reached_says_why():
    torch.manual_seed(0)
    network = Attending().eval()
    layers = find_layers(network, torch.zeros(1, 3, 8, 8))
    assert {layer.name: layer.reason for layer in layers} == {
        "stem": "stem: the first convolution",
        "attention.in_proj": None,
        "attention.out_proj": None,
        "head": None,
        "auxiliary": "the network never calls it",
    }
    x = torch.randn(12, 3, 8, 8)
    statistics = collect(
        network, x.split(4), ["attention.in_proj", "attention.out_proj"], samples=12, rows_per_column=None
    )
    tokens = network.stem(x).flatten(2).transpose(1, 2).reshape(-1, 8).detach()
    torch.testing.assert_close(statistics.hessians["attention.in_proj"][0], 2 / len(tokens) * tokens.T @ tokens)
    trace = prune(network, layers, {"attention.in_proj": 0.5}, statistics, sparsegpt)
    assert int((trace.model.attention.in_proj_weight == 0).sum()) == 24 * 8 // 2
    assert not (network.attention.in_proj_weight == 0).any() and torch.backends.mha.get_fastpath_enabled()


def test_weights_that_are_computed_anew_or_used_in_parts_are_left():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), Standardised(4, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 5))
    reasons = [layer.reason for layer in find_layers(network, torch.zeros(1, 3, 8, 8))]
    assert reasons == ["stem: the first convolution", "its weight is computed anew at each call", None]
    crossed = {layer.name: layer for layer in find_layers(Attending(cross=True), torch.zeros(1, 3, 8, 8))}
    assert "parts of it" in crossed["attention.in_proj"].reason and not crossed["attention.in_proj"].supported


def test_swin_is_reached_everywhere():
    torch.manual_seed(0)
    network = models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=5).eval()
    layers = find_layers(network, torch.zeros(1, 3, 32, 32))
    assert [layer.name for layer in layers if layer.reason] == ["features.0.0"]
    names = [layer.name for layer in layers if "attn" in layer.name]
    assert names == [f"features.{stage}.0.attn.{part}" for stage in (1, 3) for part in ("qkv", "proj")]
    statistics = collect(network, [torch.randn(4, 3, 32, 32)], names, samples=4)
    trace = prune(network, layers, dict.fromkeys(names, 0.5), statistics, sparsegpt)
    assert all(record.achieved == 0.5 for record in trace.layers if record.name in names)


def test_tied_layers_are_pruned_once_on_what_both_see():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    network[2].weight = network[0].weight
    x = torch.randn(20, 4)
    statistics = collect(network, [x], ["0"], samples=20, rows_per_column=None)
    both = torch.cat([x, network[1](network[0](x))]).detach()
    torch.testing.assert_close(statistics.hessians["0"][0], 2 / 40 * both.T @ both)
    layers = find_layers(network, x[:1])
    trace = prune(network, layers, schedule.uniform(layers, 0.5), statistics, sparsegpt)
    assert trace.model[2].weight is trace.model[0].weight
    assert (trace.weights_total, trace.weights_kept) == (16, 8)
    assert [(record.weights, record.achieved) for record in trace.layers] == [(16, 0.5), (0, 0.5)]
    assert list(layer_modules(network)) == ["", "0", "1", "2"]
