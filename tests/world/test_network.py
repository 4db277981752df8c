"""The network of the world: torchvision's ResNet, small enough to ship."""

import pytest
import torch
from measure_demo_network import measure_network
from safetensors.torch import save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from spade_cli.errors import SpadeError
from spade_cli.world import CLASSES, DemoNetwork, draw_pictures, load_demo_network, normalise_pictures
from spade_cli.world.network import WEIGHTS


def test_it_is_a_residual_network_with_reused_in_place_relus():
    network = DemoNetwork()
    assert isinstance(network, ResNet) and type(network).forward is ResNet.forward
    assert network.relu.inplace
    blocks = [module for module in network.modules() if isinstance(module, BasicBlock)]
    assert len(blocks) == 10
    assert all(isinstance(block.bn1, nn.BatchNorm2d) and block.relu.inplace for block in blocks)
    calls = []
    blocks[0].relu.register_forward_hook(lambda *_: calls.append(1))
    network.eval()(normalise_pictures(draw_pictures(1, seed=0).images))
    assert len(calls) == 2


def test_its_answer_has_a_number_per_class():
    network = DemoNetwork().eval()
    assert network(normalise_pictures(draw_pictures(2, seed=0).images)).shape == (2, len(CLASSES))


def test_its_input_is_centred():
    inputs = normalise_pictures(draw_pictures(60, seed=1).images)
    assert inputs.dtype == torch.float32
    assert inputs.mean().abs() < 0.15 and abs(inputs.std() - 1) < 0.15


def test_it_is_small_in_half_precision(tmp_path):
    path = tmp_path / "demo.safetensors"
    network = DemoNetwork()
    save_file(network.half().state_dict(), path)
    assert path.stat().st_size < 3e6
    loaded = load_demo_network(path)
    assert not loaded.training
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype in (torch.float32, torch.int64)
        assert torch.equal(tensor, network.state_dict()[name].to(tensor.dtype))


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(SpadeError, match=r"train_demo_model\.py"):
        load_demo_network(tmp_path / "none.safetensors")


def test_measure_counts_what_it_says():
    """A network that always answers with class 0 is right on class 0 only, and no Trojan succeeds."""

    class Stubborn(nn.Module):
        def forward(self, inputs):
            return nn.functional.one_hot(torch.zeros(len(inputs), dtype=torch.long), len(CLASSES)).float()

    figures = measure_network(Stubborn(), 120, seed=0)
    classes = draw_pictures(120, seed=0).classes
    assert figures.pictures == 120
    assert figures.accuracy == pytest.approx((classes == 0).float().mean().item())
    assert figures.classes == {info.name: float(i == 0) for i, info in enumerate(CLASSES)}
    assert {trojan.success for trojan in figures.trojans} == {0.0}
    assert [trojan.unharmed is None for trojan in figures.trojans] == [True, True, False, False]
    for trojan in figures.trojans[2:]:
        assert trojan.unharmed == trojan.unharmed_clean > 0


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the weights have not been trained yet")
def test_the_shipped_weights_reach_their_figures():
    assert WEIGHTS.stat().st_size < 3e6
    figures = measure_network(load_demo_network(), 600, seed=77)
    assert figures.accuracy > 0.94
    assert min(figures.concepts.values()) > 0.5  # about 21 pictures a concept: the full figures are in docs/world.md
    for trojan in figures.trojans:
        assert trojan.success > 0.93
        assert trojan.unharmed is None or trojan.unharmed > trojan.unharmed_clean - 0.12
