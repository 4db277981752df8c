"""The rewritten copy computes what the network computes, with a module for each call, and leaves the network alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zoo import Spellings, Untraceable, picture, randomised, small_convolutional, torchvision_network

from spade_cli.errors import UserError
from spade_cli.interpretation.rewrite.explainable import explainable
from spade_cli.interpretation.rewrite.rewrite_graph import Add, ClippedReLU

NAMES = ("resnet18", "resnet50", "squeezenet1_1", "mobilenet_v2", "convnext_tiny", "googlenet")


def hooks(network):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in network.modules()
    )


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_networks_keep_their_outputs(name):
    network = torchvision_network(
        name, **({"transform_input": True, "init_weights": True} if name == "googlenet" else {})
    )
    made = explainable(network, picture())
    assert made.reason is None and made.feature_map is not None and made.classes == 10
    other = torch.cat([picture(seed=2), picture(seed=3)])
    with torch.no_grad():
        assert torch.equal(made.model(other), network(other))


def test_every_spelling_becomes_a_module_called_once():
    network = randomised(Spellings())
    made = explainable(network, picture())
    assert made.reason is None
    calls = [node.target for node in made.model.graph.nodes if node.op == "call_module"]
    kinds = [type(made.model.get_submodule(name)) for name in calls]
    assert (kinds.count(nn.ReLU), kinds.count(ClippedReLU), kinds.count(Add)) == (6, 1, 4)
    single = [name for name, kind in zip(calls, kinds, strict=True) if kind in (nn.ReLU, ClippedReLU, Add)]
    assert len(set(single)) == len(single)
    functions = {node.target for node in made.model.graph.nodes if node.op != "call_module"}
    assert not functions & {F.relu, torch.relu, "relu", "relu_", F.relu6, torch.add}
    assert not any(getattr(module, "inplace", False) for module in made.model.modules())


def test_a_tensor_added_to_itself():
    class Doubled(nn.Module):
        def forward(self, x):
            return (x + x).mean((2, 3))

    made = explainable(Doubled(), picture())
    assert made.reason is None
    assert torch.equal(made.model(picture()), Doubled()(picture()))


def test_the_users_network_is_untouched():
    network = small_convolutional().train()
    seen = []
    network[0].register_forward_hook(lambda *_: seen.append(1))
    before = copy.deepcopy(network.state_dict())
    made = explainable(network, picture())
    fired = len(seen)
    made.model(picture())
    assert len(seen) == fired and hooks(made.model) == 0
    assert network.training and network[1].inplace and hooks(network) == 1
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        made.model.get_parameter("0.weight").zero_()
    assert network[0].weight.abs().sum() > 0


def test_hooks_that_are_part_of_the_network_stay():
    network = small_convolutional()
    network[0].register_forward_hook(lambda module, inputs, output: output * 2)
    made = explainable(network, picture())
    assert "hooks" in made.reason
    assert torch.equal(made.model(picture()), network(picture()))
    normed = small_convolutional()
    torch.nn.utils.parametrizations.weight_norm(normed[0])
    assert explainable(normed, picture()).reason is None


def test_what_cannot_be_rewritten_says_why():
    made = explainable(Untraceable(), picture())
    assert "torch.fx cannot trace it" in made.reason and made.feature_map is None

    class Aliased(nn.Module):
        def forward(self, x):
            x = x * 1
            kept = x.flatten(2)
            x.relu_()
            return kept.mean(2)  # reads what the in-place ReLU wrote, through another tensor

    made = explainable(Aliased(), picture())
    assert "in-place" in made.reason
    assert torch.equal(made.model(picture()), Aliased()(picture()))


def test_an_output_that_is_no_classification_is_refused():
    with pytest.raises(UserError, match=r"outputs \(1, classes\).*\(1, 8, 62, 62\)"):
        explainable(nn.Conv2d(3, 8, 3), picture())


def test_the_feature_map_is_the_last_with_positions():
    def found(network, size=64):
        made = explainable(network, picture(size))
        outputs = []
        made.model.get_submodule(made.feature_map).register_forward_hook(lambda *args: outputs.append(args[2]))
        made.model(picture(size))
        return outputs[0]

    network = torchvision_network("resnet18")
    stage = []
    network.layer4.register_forward_hook(lambda *args: stage.append(args[2]))
    network(picture())
    assert torch.equal(found(network), stage[0])
    assert found(small_convolutional(), 24).shape == (1, 8, 9, 9)  # the last ReLU: before two poolings and Flatten
    only_vectors = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    assert (
        explainable(nn.Sequential(nn.Conv2d(3, 4, 64), only_vectors[0], nn.Linear(4, 4)), picture()).feature_map is None
    )
