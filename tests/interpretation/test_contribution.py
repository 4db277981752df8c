"""What a channel adds to an answer, against its definition: weights times activations along every path."""

import pytest
import torch
from networks import small
from torch import nn

from spade_cli.errors import UserError
from spade_cli.interpretation.contribution import called_layers, contributions


def chain():
    """Two layers without bias: every path from a hidden unit to an answer can be written down."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 3))


def test_it_is_weight_times_activation_summed_over_paths():
    network, x = chain(), torch.randn(1, 3, 8, 8)
    added = contributions(network, x, 1, ["0", "3"])
    hidden = torch.nn.functional.conv2d(x, network[0].weight).clamp(min=0)[0].detach()  # (4, 6, 6)
    weights = network[3].weight[1].detach().view(4, 6, 6)
    for channel in range(4):
        for row in range(6):
            for column in range(6):
                expected = weights[channel, row, column] * hidden[channel, row, column]
                assert added["0"][channel, row, column] == pytest.approx(float(expected), abs=1e-6)
    logits = network(x)[0].detach()
    assert added["3"].tolist() == pytest.approx([0.0, float(logits[1]), 0.0])
    assert float(added["0"].sum() + network[3].bias[1].detach()) == pytest.approx(float(logits[1]), abs=1e-5)


def test_a_channel_without_kept_weights_after_it_adds_nothing():
    network, x = chain(), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        network[3].weight.view(3, 4, 36)[:, 2] = 0
    assert not contributions(network, x, 0, ["0"])["0"][2].any()


class AddsInPlace(nn.Module):
    """A residual connection written into the layer's output, as many networks have it."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

    def forward(self, x):
        out = self.conv(x)
        out += x
        return self.head(out.mean((2, 3)))


def test_outputs_that_are_written_into_are_seen_as_they_left_the_layer():
    network, x = AddsInPlace(), torch.randn(1, 3, 8, 8)
    added = contributions(network, x, 1, ["conv"])["conv"]
    expected = network.conv(x)[0] * network.head.weight[1].view(3, 1, 1) / 64
    assert torch.allclose(added, expected.detach(), atol=1e-6)


def test_the_network_is_left_as_it_was_and_mistakes_are_told():
    network = small().train()
    contributions(network, torch.randn(1, 3, 16, 16), 0, ["conv2"])
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    for layer, says in (("conv9", "conv9"),):
        with pytest.raises(UserError, match=says):
            contributions(network, torch.randn(1, 3, 16, 16), 0, [layer])
    attention = nn.Sequential(nn.Flatten(2), Attention())
    with pytest.raises(UserError, match="never called"):
        contributions(attention, torch.randn(1, 3, 4, 4), 0, ["1.mix.out_proj"])


class Last(nn.Module):
    """A linear layer over channels that come last, as in Swin; then the mean over places."""

    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.mix(x.permute(0, 2, 3, 1)).mean((1, 2)))


def test_channels_of_a_linear_layer_are_last():
    network, x = Last(), torch.randn(1, 3, 4, 6)
    added = contributions(network, x, 1, ["mix"])["mix"]
    mixed = network.mix(x.permute(0, 2, 3, 1)).detach()[0]  # (4, 6, 5)
    assert added.shape == (5, 4, 6)
    assert torch.allclose(added[2], mixed[..., 2] * network.head.weight[1, 2].detach() / 24, atol=1e-6)


class Windows(nn.Module):
    """A linear layer over the tokens of four windows, which lie where a batch does, as in timm's Swin."""

    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x):
        tokens = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(3, 4, 16).permute(1, 2, 0)  # (windows, tokens, 3)
        return self.head(self.mix(tokens).mean((0, 1))[None])


def test_all_windows_of_an_image_count():
    network, x = Windows(), torch.randn(1, 3, 8, 8)
    added = contributions(network, x, 1, ["mix"])["mix"]
    assert added.shape == (5, 64)
    logit = network(x)[0, 1] - network.head.bias[1]
    assert float(added.sum()) == pytest.approx(float(logit.detach()), abs=1e-5)


def test_only_modules_that_return_one_tensor_have_contributions():
    attention, x = nn.Sequential(nn.Flatten(2), Attention()), torch.randn(1, 3, 4, 4)
    assert called_layers(attention, x) == {"0", "1"}, "1.mix returns a tuple"


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        return self.mix(x, x, x)[0].mean(1)
