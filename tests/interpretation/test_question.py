"""Contrasts: each method on the appended score against its definition on the difference of two outputs."""

import pytest
import torch
from test_saliency import QUICK, close
from torch import Tensor, nn
from zoo import OF_ATTENTION, Untraceable, picture, small_convolutional

from spade_cli.interpretation import METHODS, CannotExplain, SmoothedMethod, ask_question, explainable, own_method
from spade_cli.networks.question import Question
from spade_cli.networks.scores import Output

CONTRAST = Question(2, ((-1.0, 4),))
LINEAR = ("input_x_gradient", "integrated_gradients", "deeplift", "lrp")  # maps that are linear in the question
SETTINGS = {**QUICK, "integrated_gradients": {"steps": 8}}


def test_score_and_probability():
    logits = torch.tensor([[1.0, 5.0, 2.0], [0.0, -1.0, 3.0]])
    rivals = Question(1, ((-0.3, 0), (-0.3, 2)))
    assert torch.allclose(rivals.score(logits), torch.tensor([5 - 0.3 * 3, -1 - 0.3 * 3]))
    assert rivals.append_score(logits).shape == (2, 4)
    contrast = Question(1, ((-1.0, 2),))
    two = logits.double()[:, [1, 2]].softmax(1)[:, 0]  # where only these two can be the answer
    assert torch.allclose(contrast.probability(logits, Output.SOFTMAX), two)
    assert torch.allclose(Question(1).probability(logits, Output.SOFTMAX), logits.double().softmax(1)[:, 1])
    largest = Question(1, function=lambda output: output.amax(1))
    assert largest.score(logits).tolist() == [5, 3] and largest.score(logits[0]).item() == 5
    assert largest.classes == () and contrast.classes == (1, 2) and not contrast.is_class and Question(1).is_class


@pytest.fixture(scope="module")
def networks():
    network = explainable(small_convolutional(), picture(24))
    return network, *ask_question(network, CONTRAST)


def test_the_network_stays_and_its_copy_shares_the_weights(networks):
    network, contrast, output = networks
    assert ask_question(network, Question(2)) == (network, 2)
    assert output == network.classes == contrast.classes - 1
    with torch.no_grad():
        logits, longer = network.model(picture(24)), contrast.model(picture(24))
    assert torch.equal(longer[:, :-1], logits) and torch.equal(longer[:, -1], logits[:, 2] - logits[:, 4])
    own = {one.data_ptr() for one in network.model.parameters()}
    assert {one.data_ptr() for one in contrast.model.parameters()} == own


@pytest.mark.parametrize("method", LINEAR)
def test_a_contrast_is_the_difference_of_two_maps(networks, method):
    network, contrast, output = networks
    make = {
        name: METHODS[method](network, picture(24), index, **SETTINGS.get(method, {})).map
        for name, index in (("for", 2), ("against", 4))
    }
    found = METHODS[method](contrast, picture(24), output, **SETTINGS.get(method, {}))
    assert close(found.map, make["for"] - make["against"])


@pytest.mark.parametrize("method", ["saliency", "occlusion", "gradcam", "hirescam", "lime", "guided_gradcam"])
def test_a_contrast_is_the_map_of_a_network_that_answers_with_the_difference(networks, method):
    """The weights of its last layer are those of one class less those of the other."""
    _, contrast, output = networks
    network = small_convolutional()
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.weight[0] = head.weight[2] - head.weight[4]
        if head.bias is not None:
            head.bias[0] = head.bias[2] - head.bias[4]
    expected = METHODS[method](explainable(network, picture(24)), picture(24), 0, **SETTINGS.get(method, {}))
    assert close(METHODS[method](contrast, picture(24), output, **SETTINGS.get(method, {})).map, expected.map)


def test_every_method_explains_a_contrast_and_smoothing_several_traces(networks):
    _, contrast, output = networks
    for name, method in METHODS.items():
        if name in OF_ATTENTION:
            continue  # for networks with attention
        smoothed = SmoothedMethod(
            method if name not in SETTINGS else _bound(method, SETTINGS[name]), samples=2, noise=0.1
        )
        assert smoothed([contrast, contrast], picture(24), output).map.shape == (3, 24, 24)


def test_methods_of_the_users_own_and_networks_that_cannot_be_rewritten(networks):
    def slope(network: nn.Module, image: Tensor, target: int) -> Tensor:
        assert hasattr(network, "0")  # its layers have their names
        image.requires_grad_()
        return torch.autograd.grad(network(image)[0, target], image)[0]

    _, contrast, output = networks
    gradient = METHODS["saliency"](contrast, picture(24), output).map
    assert close(own_method(slope)(contrast, picture(24), output).map.abs(), gradient)
    plain, last = ask_question(explainable(Untraceable(), picture(24)), Question(2, ((-1.0, 0),)))
    assert plain.reason and METHODS["saliency"](plain, picture(24), last).map.any()
    with pytest.raises(CannotExplain):
        METHODS["lrp"](plain, picture(24), last)


def test_a_function_of_the_output_is_explained(networks):
    network, *_ = networks
    entropy = Question(0, function=lambda output: -(output.softmax(1) * output.log_softmax(1)).sum(1))
    appended, last = ask_question(network, entropy)
    image = picture(24).requires_grad_()
    logits = network.model(image)
    (slope,) = torch.autograd.grad(-(logits.softmax(1) * logits.log_softmax(1)).sum(), image)
    assert close(METHODS["saliency"](appended, picture(24), last).map, slope[0].abs())


def _bound(method, settings):
    from functools import partial

    return partial(method, **settings)
