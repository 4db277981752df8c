"""`target`: what is asked about an image, and every wrong way to ask."""

import pytest
import torch
from networks import small
from user_networks import picture, wrapped

from spade_cli.errors import UserError
from spade_cli.models import Classifier
from spade_cli.models.questions import NothingToCompareError, find_question
from spade_cli.networks.question import Question

LABELS = ("cat", "dog", "top2", "a:b", "fox")
LOGITS = torch.tensor([3.0, 5.0, -1.0, 2.5, 4.0])  # dog, fox, cat, a:b, top2


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    from dataclasses import replace

    return replace(wrapped(small()), labels=LABELS, classes=5)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, Question(1)),
        ("predicted", Question(1)),
        ("cat", Question(0)),
        ("3", Question(3)),
        (3, Question(3)),
        ("TOP3", Question(0)),
        ("top2", Question(2)),  # the class that is named so
        ("a:b", Question(3)),
        ("cat:dog", Question(0, ((-1.0, 1),))),
        (" Cat : 4 ", Question(0, ((-1.0, 4),))),
        ("cat:predicted", Question(0, ((-1.0, 1),))),
        ("predicted:top3", Question(1, ((-1.0, 0),))),
        ("cat:rivals", Question(0, ((-0.2, 3), (-0.2, 4), (-0.2, 1)))),  # 2.5, 4 and 5 are nearest to 3
    ],
)
def test_what_can_be_asked(classifier: Classifier, asked: str | int | None, found: Question) -> None:
    question = find_question(asked, classifier, LOGITS)
    assert question.index == found.index
    assert [index for _, index in question.others] == [index for _, index in found.others]
    assert [weight for weight, _ in question.others] == pytest.approx([weight for weight, _ in found.others])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("cat:cat", "sets cat against itself"),
        ("cat:0", "sets cat against itself"),
        ("cat:dog:fox", "write CLASS, CLASS:OTHER or CLASS:rivals"),
        ("cat:", "is not a contrast of two classes"),
        (":dog", "is not a contrast of two classes"),
        ("cat:dgo", "'dgo' is no class of this network; close: dog"),
        ("rivals:cat", "'rivals' is no class"),
        ("cat:7", "class 7 is out of range: the network has 5 classes"),
        ("top6", "give top1 to top5"),
        ("top0", "give top1 to top5"),
        ("dog:predicted", "on this image both are dog"),
        ("top1:predicted", "on this image both are dog"),
    ],
)
def test_what_cannot_be_asked(classifier: Classifier, asked: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as raised:
        find_question(asked, classifier, LOGITS)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, NothingToCompareError) == ("on this image" in words)


def test_a_network_of_one_output_has_no_rivals() -> None:
    with pytest.raises(UserError, match="no rival"):
        find_question("0:rivals", wrapped(small(), output="sigmoid"), torch.tensor([1.0]))


def test_functions_of_the_output(classifier: Classifier) -> None:
    def margin(output: torch.Tensor) -> torch.Tensor:
        return output[:, 0] - output[:, 1]

    assert find_question(margin, classifier, LOGITS).score(LOGITS).item() == -2
    wrong = {
        "return one number a row": lambda output: output,
        "has no gradient": lambda output: output.detach()[:, 0],
        "is not finite": lambda output: output[:, 0] / 0,
        "fails on an output": lambda output: output[:, 99],
        "returned int": lambda output: 3,
    }
    for words, function in wrong.items():
        with pytest.raises(UserError, match=words):
            find_question(function, classifier, LOGITS)


def test_a_trace_keeps_what_a_function_asks() -> None:
    import spade_cli

    model, scores = wrapped(small()), []

    def margin(output: torch.Tensor) -> torch.Tensor:
        scores.append(output.shape[-1])
        return output[:, 0] - output[:, 1]

    found = spade_cli.trace(model, picture_of(model), samples=4, target=margin, visualization_traces=1)
    assert len(scores) > 2  # the trials were judged by it
    assert all(0 <= trial.fidelity.pruned <= 1 for trial in found.trials)


def picture_of(model: Classifier) -> torch.Tensor:
    return (picture()[0].clamp(0, 1) * 255).to(torch.uint8)
