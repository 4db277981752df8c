"""Networks in int8: dynamically quantised linear layers become float ones, every other kind is refused."""

import copy
import warnings

import pytest
import torch
from torch import nn
from user_networks import Net, picture, refusal, seeded, wrapped

from spade_cli.models import ModelSource, load_model
from spade_cli.networks.dequantise import dequantise_layers, is_dynamic_linear
from spade_cli.pruning import find_layers


class Deep(Net):
    """A head of two linear layers, one of them in a container."""

    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5, bias=False))
        for layer in (self.head[0], self.head[2]):
            nn.init.normal_(layer.weight)


def quantise(network: nn.Module, kind: torch.dtype = torch.qint8) -> nn.Module:
    quantization = pytest.importorskip("torch.ao.quantization")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it moves to torchao
        return quantization.quantize_dynamic(network, {nn.Linear}, dtype=kind)


def quantised_network() -> nn.Module:
    """A factory for model=python."""
    return quantise(seeded(Deep).eval())


@pytest.mark.parametrize(("kind", "rounding"), [(torch.qint8, 0.05), (torch.float16, 2e-3)])
def test_linear_layers_become_float_with_the_same_weights(kind: torch.dtype, rounding: float) -> None:
    given = quantise(seeded(Deep).eval(), kind)
    before = copy.deepcopy(given)
    made = wrapped(given)
    for place in (0, 2):
        layer, wanted = made.model.head[place], before.head[place].weight()
        assert type(layer) is nn.Linear and (layer.bias is None) == (place == 2)
        assert torch.equal(layer.weight, wanted.dequantize() if wanted.is_quantized else wanted)
    (note,) = [note for note in made.notes if "quantised" in note]
    assert note.startswith("its 2 linear layers were quantised, and made float again")
    assert is_dynamic_linear(given.head[0])  # the user's own network stays as it was
    x = picture()
    with torch.no_grad():
        difference = (made.model(x) - before(x)).abs().max() / before(x).abs().max()
    assert difference < rounding
    x.requires_grad_()
    made.model(x)[0, 1].backward()
    assert x.grad.abs().max() > 0
    assert {layer.name for layer in find_layers(made.model, made.grey())} >= {"head.0", "head.2"}


def test_factories_and_a_single_layer() -> None:
    made = load_model(ModelSource(None, factory=f"{__name__}:quantised_network", size=32))
    assert any("quantised" in note for note in made.notes) and type(made.model.head[0]) is nn.Linear
    layer, count = dequantise_layers(quantise(nn.Sequential(nn.Linear(3, 2)))[0])
    assert type(layer) is nn.Linear and count == 1
    assert dequantise_layers(nn.Linear(3, 2))[1] == 0


def test_other_quantised_networks_are_refused() -> None:
    static = seeded(Net)
    static.conv = torch.ao.nn.quantized.Conv2d(8, 8, 3, padding=1)
    assert "its part conv is quantized, and pruning needs real numbers" in refusal(static)
    fused = quantise(nn.Sequential(nn.Linear(3, 3)))
    fused[0] = torch.ao.nn.intrinsic.quantized.dynamic.LinearReLU(3, 3)
    assert "its part 0 is quantized" in refusal(fused)

    class Packed(torch.Tensor):
        """What torchao puts in a weight's place."""

    Packed.__module__ = "torchao.dtypes"
    packed = seeded(Net)
    packed.head.weight = nn.Parameter(packed.head.weight.detach().as_subclass(Packed))
    assert "its part head is quantized by torchao" in refusal(packed)
