"""What outputs mean: scores of classes or labels, probabilities that become scores, and measures of each."""

from collections.abc import Callable

import pytest
import torch
import user_outputs as outs
from networks import photograph, small
from torch import Tensor, nn
from user_networks import picture, refusal, wrapped

import spade_cli
from spade_cli.images.load import as_image
from spade_cli.models import Classifier
from spade_cli.networks.question import Question
from spade_cli.networks.scores import Output


@pytest.mark.parametrize(
    ("make", "asked", "found"),
    [
        (small, "auto", Output.SOFTMAX),
        (small, "sigmoid", Output.SIGMOID),
        (outs.one_logit, "auto", Output.SIGMOID),
        (outs.frozen_logit, "auto", Output.SIGMOID),
        (outs.one_probability_of_a_module, "auto", Output.SIGMOID),
        (outs.many_labels, "sigmoid", Output.SIGMOID),
        (outs.many_probabilities, "auto", Output.SIGMOID),
        (outs.ends_in_softmax, "auto", Output.SOFTMAX),
    ],
)
def test_what_scores_mean(make: Callable[[], nn.Module], asked: str, found: Output) -> None:
    assert wrapped(make(), output=asked).output is found


@pytest.mark.parametrize(
    "make",
    [outs.one_probability_of_a_module, outs.many_probabilities, outs.ends_in_softmax],
    ids=lambda make: make.__name__,
)
def test_a_last_step_is_taken_out(make: Callable[[], nn.Module]) -> None:
    """The same probabilities, made of scores: the slow way round."""
    network, x = make(), picture()
    classifier = wrapped(network)
    scores = classifier.model(x)
    assert torch.allclose(classifier.output.probabilities(scores).float(), network(x), atol=1e-5)
    assert not torch.allclose(scores, network(x), atol=1e-2)
    assert "taken out" in classifier.notes[0]


@pytest.mark.parametrize(
    ("make", "asked", "words"),
    [
        (outs.one_logit, "softmax", "set output=sigmoid"),
        (outs.many_probabilities, "softmax", "ends in a sigmoid"),
        (outs.ends_in_softmax, "sigmoid", "ends in a softmax"),
        (small, "logits", "there are auto, softmax and sigmoid"),
        (lambda: nn.Sequential(outs.one_logit(), nn.Softmax(1)), "auto", "always 1"),
    ],
)
def test_meanings_that_do_not_fit_are_refused(make: Callable[[], nn.Module], asked: str, words: str) -> None:
    assert words in refusal(make(), output=asked)


@pytest.mark.parametrize(("logit", "changed"), [(18.5, -3.3), (-4.0, 2.0)])
def test_one_score_is_measured_by_its_sigmoid(logit: float, changed: float) -> None:
    """18.5 -> -3.3 is another answer: 100 % became 3.6 %."""
    from spade_cli.pruning import Judge

    class Says(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 1), changed)

    judge = Judge(torch.zeros(1, 3, 2, 2), torch.tensor([logit]), Question(0), output=Output.SIGMOID)
    found = judge(Says())
    assert not found.same_prediction
    assert (found.dense, found.pruned) == pytest.approx(
        (1 / (1 + 2.718281828459045**-logit), 1 / (1 + 2.718281828459045**-changed)), rel=1e-6
    )


def test_sigmoids_by_hand() -> None:
    """Definitions, slowly: Bernoulli distributions side by side."""
    from math import exp, log

    dense, trace = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1.0, -3.0, -0.5]])
    total = 0.0
    for a, b in zip(dense[0].tolist(), trace[0].tolist(), strict=True):
        p, q = 1 / (1 + exp(-a)), 1 / (1 + exp(-b))
        total += p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))
    assert Output.SIGMOID.divergence(dense, trace).item() == pytest.approx(total)
    assert Output.SIGMOID.answers(dense).tolist() == [[True, False, True]]
    assert Output.SIGMOID.same_answer(dense, trace).tolist() == [False]
    assert Output.SIGMOID.name_answer(dense[0], "abc".__getitem__) == "a, c"
    assert Output.SIGMOID.name_answer(-dense[0].abs(), "abc".__getitem__) == "no label above 50%"
    p, q = dense.softmax(1)[0].tolist(), trace.softmax(1)[0].tolist()
    assert Output.SOFTMAX.divergence(dense, trace).item() == pytest.approx(
        sum(a * log(a / b) for a, b in zip(p, q, strict=True)), rel=1e-4
    )
    assert Output.SOFTMAX.name_answer(dense[0], "abc".__getitem__) == "a"


def test_extreme_scores_of_labels_have_a_finite_divergence() -> None:
    far = torch.tensor([[90.0, -90.0]])
    assert Output.SIGMOID.divergence(far, -far).item() == pytest.approx(180, rel=1e-6)
    assert Output.SIGMOID.divergence(far, far).item() == 0


def test_auto_keeps_every_label() -> None:
    """Independent labels: the trace gives the same set of labels, and the target's own probability stays."""
    classifier = wrapped(outs.many_labels(), output="sigmoid")
    image = as_image(photograph())
    trace = spade_cli.trace(classifier, image, samples=16)
    x = classifier.preprocessing.normalise(classifier.preprocessing.view(image))
    dense, pruned = classifier.model(x)[0], trace.model(x)[0]
    assert torch.equal(dense > 0, pruned > 0)
    target = int(dense.argmax())
    assert dense[target].sigmoid() - pruned[target].sigmoid() <= 0.1 + 1e-6


def test_lime_of_one_score_is_not_flat() -> None:
    from spade_cli.interpretation import METHODS, explainable

    classifier = wrapped(outs.one_probability_of_a_module())
    x = _x(classifier)
    found = METHODS["lime"](explainable(classifier.model, x), x, 0, samples=60)
    assert found.map.abs().max() > 0 and len(found.map.unique()) > 1


def _x(classifier: Classifier) -> Tensor:
    return classifier.preprocessing.normalise(classifier.preprocessing.view(as_image(photograph())))
