"""The rehearsal: what is assumed of a network is proven at load, or refused in one line that names the cause."""

import copy
from collections.abc import Callable

import pytest
import torch
import user_networks as nets
import user_outputs as outs
from networks import photograph, small
from torch import Tensor, nn
from user_networks import picture, refusal, wrapped

import spade_cli
from spade_cli.errors import UserError
from spade_cli.images.load import as_image
from spade_cli.models import Classifier, ModelSource, load_model, wrap
from spade_cli.models.rehearsal import draw_rehearsal_pictures, rehearse
from spade_cli.networks.scores import Output
from spade_cli.pruning import find_layers


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nets.forward_replaced, ["forward, which was replaced on the instance", "runs the original's layers"]),
        (nets.part_replaced, ["conv1.forward, which was replaced", "conv1.weight"]),
        (nets.hook_with_a_layer, ["a hook on stem that holds layers", "conv.weight"]),
        (nets.with_a_lock, ["conv.lock", "lock"]),
        (nets.with_a_file, ["log", "TextIOWrapper"]),
        (outs.ignores_the_picture, ["every picture the same answer"]),
        (outs.one_picture_at_a_time, ["two pictures at once"]),
        (nets.scripted_part, ["its part conv is TorchScript"]),
        (nets.exported_part, ["its part conv is an exported graph"]),
        (lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(12, 2))), ["it is TorchScript"]),
        (nets.four_channels, ["torch.cat([x, x[:, :1]], 1)"]),
        (nets.takes_a_dict, ["return self.net({'image': x})"]),
        (outs.ends_in_functional_softmax, ["ends in a softmax", "return what goes into the softmax"]),
        (outs.one_probability, ["ends in a sigmoid", " output=sigmoid"]),
        (outs.mean_of_softmaxes, ["answers with probabilities"]),
        (outs.clamped_probabilities, ["ends in a sigmoid"]),
        (outs.clamped_probability, ["ends in a sigmoid"]),
        (outs.probabilities_by_tanh, ["lie between 0 and 1", " output=sigmoid"]),
        (nets.two_inputs, ["takes two inputs", "self.net(x, torch.zeros_like(x))"]),
    ],
)
def test_what_cannot_be_explained_is_refused_with_its_cause(make: Callable[[], nn.Module], words: list[str]) -> None:
    message = refusal(make())
    assert all(word in message for word in words), message


def test_a_layer_that_is_no_part_of_the_network_is_no_layer() -> None:
    """The copy still runs on its own layers: the global one is not listed, and nothing claims that it was pruned."""
    assert [layer.name for layer in find_layers(wrapped(nets.global_layer()).model, picture()) if layer.supported] == [
        "stem",
        "conv",
    ]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (outs.active_dropout, ["differently from call to call", "random numbers in eval mode"]),
        (outs.trains_in_forward, ["differently from call to call", "to training mode"]),
        (outs.global_state, ["differently from call to call", "its own state (calls)"]),
        (
            outs.batch_statistics,
            ["alone and beside another", "norm normalises by the statistics of each batch"],
        ),
    ],
)
def test_answers_that_change_are_flagged_with_the_reason(make: Callable[[], nn.Module], words: list[str]) -> None:
    (note, *_) = wrapped(make()).notes
    assert all(word in note for word in words), note


def test_a_rehearsal_asks_no_more_than_it_needs() -> None:
    """The first picture twice, two pictures, a gradient, a pair; then the network and its copy, twice."""
    network, asked = small().eval(), list[int]()
    network.register_forward_hook(lambda module, inputs, output: asked.append(len(output)))
    classifier = wrapped(small())
    rehearse(network, draw_rehearsal_pictures(classifier.preprocessing, torch.device("cpu")), "model=small")
    assert asked == [1, 1, 1, 1, 1, 2, 1, 1, 1, 1]


def test_the_rehearsal_leaves_state_and_random_numbers_as_they_were() -> None:
    network, before = outs.global_state(), torch.random.get_rng_state()
    classifier = wrapped(network)
    assert network.calls == 0 and classifier.model.calls == 0
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_sound_network_has_nothing_to_note() -> None:
    assert wrapped(small()).notes == ()


@pytest.mark.parametrize(
    "make",
    [
        nets.old_weight_norm,
        nets.old_spectral_norm,
        nets.new_weight_norm,
        nets.new_spectral_norm,
        nets.pruned_by_torch,
    ],
)
def test_weights_computed_at_each_call_are_baked_in(make: Callable[[], nn.Module]) -> None:
    """The baked copy answers as the network does, its layers can be pruned, and the user's network is untouched."""
    network = make().eval()
    classifier = wrapped(network)
    x = picture()
    with torch.no_grad():
        assert torch.allclose(classifier.model(x), network(x), atol=1e-5)
    assert [layer.name for layer in find_layers(classifier.model, x) if layer.reason is None] == ["conv", "head"]
    assert isinstance(classifier.model.conv._parameters["weight"], nn.Parameter)
    assert "weight" not in network.conv._parameters
    trace = spade_cli.trace(classifier, photograph(), samples=4, schedule="uniform", sparsity=0.5)
    assert [layer.achieved for layer in trace.layers if layer.name == "conv"] == [pytest.approx(0.5, abs=0.15)]


@pytest.mark.parametrize("make", [nets.compiled, nets.data_parallel])
def test_wrappers_are_taken_off(make: Callable[[], nn.Module]) -> None:
    classifier = wrapped(make())
    assert type(classifier.model).__name__ == "Small" and classifier.name == "Small"
    assert torch.equal(classifier.model(picture()), small()(picture()))


def test_modes_that_return_nothing() -> None:
    trace = spade_cli.trace(wrapped(nets.modes_that_return_nothing()), photograph(), samples=4)
    assert not trace.model.training


@pytest.mark.parametrize(("make", "dtype"), [(nets.half_inside, torch.float16), (nets.double_inside, torch.float64)])
def test_a_network_that_computes_in_types_of_its_own_keeps_them(make: Callable[[], nn.Module], dtype: object) -> None:
    network = make()
    classifier = wrapped(network)
    assert classifier.model.conv.weight.dtype == dtype
    trace = spade_cli.trace(classifier, photograph(), samples=4, schedule="uniform", sparsity=0.5)
    assert trace.model.conv.weight.dtype == dtype
    assert torch.equal(classifier.model(picture()), network(picture()))


def test_a_network_in_half_precision_becomes_float32() -> None:
    assert wrapped(small().half()).model.conv1.weight.dtype == torch.float32


def test_a_grey_network_sees_the_luminance() -> None:
    """(N, 3, H, W) -> what the network says of 0.299 red + 0.587 green + 0.114 blue; its layers keep their names."""
    network, x = nets.grey(), picture()
    classifier = wrapped(network)
    grey = sum(share * x[:, channel : channel + 1] for channel, share in enumerate((0.299, 0.587, 0.114)))
    assert torch.allclose(classifier.model(x), network(grey), atol=1e-6)
    assert "grey" in classifier.notes[0]
    assert [layer.name for layer in find_layers(classifier.model, x)] == ["stem", "conv", "head"]
    assert wrapped(network, channels=1).notes == () and torch.equal(
        wrapped(network, channels=1).model(x), classifier.model(x)
    )
    assert torch.equal(copy.deepcopy(classifier.model)(x), classifier.model(x))
    assert refusal(nets.four_channels(), channels=4).startswith("channels=4") and "leave it out" in refusal(
        small(), channels=1
    )


def test_python_can_what_the_command_line_can() -> None:
    assert load_model("demo").name == "demo"
    assert load_model("squeezenet1_1", weights="none", size=64).preprocessing.size == 64
    assert wrapped(small()).preprocessing.mean == (0.5, 0.5, 0.5)
    assert wrap(small(), size=(32, 32), mean=[0, 0, 0], std=1).preprocessing.size == 32
    classifier = wrapped(small(), labels=["a", "b", "c", "d", "e"])
    trace = spade_cli.trace(classifier, photograph(), samples=4, target="b", sparsity=0.5)
    assert trace.trials and trace.trials[0].fidelity.dense == pytest.approx(
        classifier.model(_x(classifier)).softmax(1)[0, 1].item(), rel=1e-4
    )


def _x(classifier: Classifier) -> Tensor:
    return classifier.preprocessing.normalise(classifier.preprocessing.view(as_image(photograph())))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: wrap("resnet50"), "load_model('resnet50')"),
        (lambda: load_model(small()), "spade_cli.wrap"),
        (lambda: wrap(small), "not function; call it and wrap what it returns: spade_cli.wrap(small())"),
        (lambda: wrap(nets.Net), "not a class; call it and wrap what it returns: spade_cli.wrap(Net())"),
        (lambda: load_model("resnet18", wieghts="none"), "did you mean weights"),
        (lambda: wrap(small(), size=(32, 40, 3)), "side of a square in pixels nor height and width"),
        (lambda: wrap(small(), size=(32, 0)), "size=(32, 0): 0 is not from 1 to"),
        (lambda: wrap(small(), size=0), "side of a square"),
        (lambda: wrap(small(), size=32, mean=[123, 117, 104]), "divide"),
        (lambda: wrap(small(), size=32, std=0), "std=0 is not a number from 1e-06 to 1"),
        (lambda: wrap(small(), size=32, mean=[0.5, 0.5]), "one number or three"),
        (lambda: wrap(small(), size=32, labels="abcde"), "1 given"),
        (lambda: spade_cli.trace(wrapped(small()), photograph(), target="cat"), "cat"),
        (lambda: spade_cli.trace(wrapped(small()), photograph(), target=7), "out of range"),
        (lambda: spade_cli.trace(small(), photograph(), sampels=4), "sampels"),
    ],
)
def test_mistakes_in_python_are_user_errors(call: Callable[[], object], words: str) -> None:
    with pytest.raises((UserError, TypeError)) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("call", "start"),
    [
        (lambda: load_model("resnet1818"), "name=resnet1818 is no classifier"),
        (lambda: load_model("resnet18", library="keras"), "library=keras is unknown"),
        (lambda: load_model("demo", labels="nowhere.txt"), "labels=nowhere.txt: no such file"),
        (lambda: wrap(small(), size=32, output="logits"), "output=logits is unknown"),
        (lambda: wrap(nets.four_channels(), size=32, channels=4), "channels=4: "),
    ],
)
def test_mistakes_in_python_speak_of_arguments_and_not_of_the_command_line(
    call: Callable[[], object], start: str
) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value).startswith(start) and "model." not in str(caught.value)


def test_a_factory_passes_the_same_rehearsal() -> None:
    with pytest.raises(UserError, match="replaced on the instance"):
        load_model(ModelSource(None, factory="user_networks:forward_replaced", size=nets.SIZE))
    assert load_model(ModelSource(None, factory="user_outputs:one_logit", size=nets.SIZE)).output is Output.SIGMOID
    assert load_model(ModelSource(None, factory="user_networks:grey", size=nets.SIZE, channels=1)).classes == 5
