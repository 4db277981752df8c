"""The copy that is explained is a true one: of every weight, with the same random numbers; or it is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from map_networks import (
    COMPUTED_WEIGHTS,
    DRAWN,
    Draws,
    forward_bound_to_the_network,
    forward_held_by_a_function,
    hook_that_holds_a_layer,
    keeps_its_features,
    plain,
    with_a_scripted_part,
    with_computed_weight,
)
from torch import nn
from zoo import FOUND_AT, OF_ATTENTION, picture

from spade_cli import interpretation
from spade_cli.errors import UserError
from spade_cli.interpretation import METHODS, CannotExplain, explainable
from spade_cli.networks.copies import copy_for_eval

SIZE = 24
QUICK = {"lime": {"samples": 4}, "occlusion": {"window": 12, "stride": 12}, "gradient_shap": {"samples": 4}}
QUICK["rise"] = {"samples": 8}
CONVOLUTIONAL = {name: method for name, method in METHODS.items() if name not in OF_ATTENTION}


@pytest.mark.parametrize("name", COMPUTED_WEIGHTS)
def test_a_weight_that_is_computed_is_explained_like_a_plain_one(name):
    network, image = with_computed_weight(name), picture(SIZE)
    written = plain()
    with torch.no_grad():
        network(image)
        written[0].weight.copy_(network[0].weight), written[0].bias.copy_(network[0].bias)
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    safe = explainable(network, image)
    assert safe.reason is None
    for method in CONVOLUTIONAL.values():
        found, expected = (
            method(one, image, FOUND_AT, **QUICK.get(method.__name__, {}))
            for one in (safe, explainable(written, image))
        )
        assert torch.allclose(found.map, expected.map, rtol=1e-4, atol=1e-5 * expected.map.abs().max().item())
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("make", "layer"), [(forward_held_by_a_function, r"0\.weight"), (hook_that_holds_a_layer, r"7\.weight")]
)
def test_a_copy_that_would_run_the_originals_layers_is_refused(make, layer):
    with pytest.raises(UserError, match=rf"seen at {layer}.* put the change into the class's own forward"):
        explainable(make(), picture(SIZE))


def test_a_hook_that_only_looks_is_no_hindrance():
    network = plain()
    head = network[7]
    network[0].register_forward_hook(lambda *_: print(head.weight.sum()))
    assert explainable(network, picture(SIZE)).reason is None


def test_a_forward_that_can_be_copied_is_followed():
    network, image = forward_bound_to_the_network(), picture(SIZE)
    safe = explainable(network, image)
    assert safe.reason is None and torch.allclose(safe.model(image), network(image))
    assert torch.allclose(safe.model(image), 2 * plain()(image))


def test_features_that_are_kept_and_compiled_networks_are_copied():
    image = picture(SIZE)
    for network in (keeps_its_features(), torch.compile(plain(), backend="eager")):
        safe = explainable(network, image)
        assert safe.reason is None and torch.equal(safe.model(image), plain()(image))


def test_torchscript_is_named():
    for network, where in (
        (with_a_scripted_part(), "its part '3' is TorchScript"),
        (torch.jit.script(plain()), "it is"),
    ):
        safe = explainable(network, picture(SIZE))
        assert safe.reason.startswith(where) and "TorchScript" in safe.reason
        with pytest.raises(CannotExplain, match=r"^it needs a rewritten copy .* TorchScript, which shows none"):
            interpretation.lrp(safe, picture(SIZE), FOUND_AT)
        found = interpretation.saliency(safe, picture(SIZE), FOUND_AT).map
        expected = interpretation.saliency(explainable(plain(), picture(SIZE)), picture(SIZE), FOUND_AT).map
        assert torch.allclose(found, expected, atol=1e-6)


def test_what_cannot_be_copied_is_one_line():
    network = plain()
    network.log = Path(__file__).open(encoding="utf-8")  # noqa: SIM115
    with network.log, pytest.raises(UserError, match=r"cannot be copied, .*: log \(TextIOWrapper"):
        explainable(network, picture(SIZE))


def test_an_eval_that_returns_nothing():
    class Silent(nn.Sequential):
        def eval(self):
            super().eval()

    assert copy_for_eval(Silent(nn.Dropout(0.5))).training is False


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_networks_that_draw_random_numbers_give_one_map(draw):
    network, image = Draws(draw).eval(), picture(SIZE)
    maps = []
    for before in (1, 2):
        torch.manual_seed(before), np.random.seed(before)
        state = torch.get_rng_state()
        safe = explainable(network, image)
        assert safe.reason is None
        maps.append(
            [method(safe, image, FOUND_AT, **QUICK.get(name, {})).map for name, method in CONVOLUTIONAL.items()]
        )
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first, second) for first, second in zip(*maps, strict=True))
    relevance = interpretation.lrp(safe, image, FOUND_AT)
    assert "computes something else" not in str(relevance.warnings)


def test_answers_that_no_seed_makes_the_same_are_named():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.calls = plain(), 0

        def forward(self, x):
            self.calls += 1
            return self.body(x) * self.calls

    assert explainable(Counts().eval(), picture(SIZE)).reason == (
        "its answer to the same picture changes from call to call, even with the same random numbers"
    )
