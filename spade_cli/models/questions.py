"""`target` -> the question that a network is asked about an image: a class, a class against others, a function."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from spade_cli.errors import UserError, error_line
from spade_cli.models.classifier import Classifier
from spade_cli.networks.question import Question

PREDICTED, RIVALS = "predicted", "rivals"
RANK = re.compile(r"top(\d{1,9})", re.IGNORECASE | re.ASCII)
# Finer-CAM (Zhang et al. 2025, arXiv 2501.11309): three rivals, and the share of their mean score that is taken off.
NEAREST, SHARE = 3, 0.6
FORMS = "write CLASS, CLASS:OTHER or CLASS:rivals"

Target = str | int | Callable[[Tensor], Any]


class NothingToCompareError(UserError):
    """Both sides of a contrast are the same class, on this image."""


def find_question(asked: Target | None, classifier: Classifier, logits: Tensor) -> Question:
    """What is asked about an image, from the logits (classes,) that the dense network gives it; None: the likeliest.

    A class is a label, an index, `predicted`, or `topN`, the Nth likeliest. `A:B` is the score of A less that of B.
    `A:rivals` is Finer-CAM's score: that of A less a share of the mean of its rivals, the classes whose scores on this
    image are nearest to A's. A label that is spelled like one of these goes first. A function takes logits (n, classes)
    and returns one number for each image, which is read like a logit.

    Raises UserError for what cannot be asked, NothingToCompareError where only this image makes both sides the same.
    """
    if asked is None:
        return Question(int(logits.argmax()))
    if callable(asked):
        return _check_function(Question(int(logits.argmax()), function=asked), logits)
    if isinstance(asked, int) or ":" not in asked or _is_label(asked, classifier):
        return Question(_find_class(asked, classifier, logits))
    first, *others = asked.split(":")
    if len(others) != 1 or not (first.strip() and others[0].strip()):
        raise UserError(f"target={asked} is not a contrast of two classes: {FORMS}")
    (other,) = others
    index = _find_class(first, classifier, logits)
    if other.strip().casefold() == RIVALS and not _is_label(other, classifier):
        return Question(index, _find_rivals(asked, index, logits))
    against = _find_class(other, classifier, logits)
    if index == against:
        label = classifier.label(index)
        if _depends_on_image(first, classifier) or _depends_on_image(other, classifier):
            raise NothingToCompareError(f"target={asked}: on this image both are {label}; name another class")
        raise UserError(f"target={asked} sets {label} against itself; name another class, or {label}:{RIVALS}")
    return Question(index, ((-1.0, against),))


def _find_class(asked: str | int, classifier: Classifier, logits: Tensor) -> int:
    """The index of one class."""
    if isinstance(asked, int) or not _depends_on_image(asked, classifier):
        return classifier.class_index(asked)
    rank = RANK.fullmatch(asked.strip())
    place = 1 if rank is None else int(rank[1])
    if not 1 <= place <= len(logits):
        raise UserError(f"target={asked}: the network has {len(logits)} classes; give top1 to top{len(logits)}")
    return int(logits.argsort(descending=True, stable=True)[place - 1])


def _depends_on_image(asked: str, classifier: Classifier) -> bool:
    """Whether it names a class by what the network answers."""
    word = asked.strip().casefold()
    return (word == PREDICTED or RANK.fullmatch(word) is not None) and not _is_label(asked, classifier)


def _is_label(asked: str, classifier: Classifier) -> bool:
    return asked.strip().casefold() in {label.casefold() for label in classifier.labels or ()}


def _find_rivals(asked: str, index: int, logits: Tensor) -> tuple[tuple[float, int], ...]:
    """The classes whose scores are nearest to that of a class, and the weight of each."""
    order = (logits - logits[index]).abs().argsort(stable=True).tolist()
    rivals = [one for one in order if one != index][:NEAREST]
    if not rivals:
        raise UserError(f"target={asked}: the network has one class, and no rival of it")
    return tuple((-SHARE / len(rivals), one) for one in rivals)


def _check_function(question: Question, logits: Tensor) -> Question:
    """Raises UserError where a function does not return one finite number for each image, or is not differentiable."""
    name = getattr(question.function, "__name__", "the function")
    several = logits.detach().expand(2, -1).clone().requires_grad_()  # (2, classes)
    assert question.function is not None
    try:
        with torch.enable_grad():
            score = question.function(several)
    except Exception as error:  # whatever the user's function raises
        raise UserError(f"target: {name} fails on an output (2, {len(logits)}): {error_line(error)}") from error
    if not isinstance(score, Tensor) or score.shape not in ((2,), (2, 1)):
        found = f"a tensor {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
        raise UserError(f"target: {name} returned {found} for an output (2, {len(logits)}); return one number a row")
    if not score.requires_grad or not torch.isfinite(score).all():
        why = "has no gradient" if not score.requires_grad else "is not finite"
        raise UserError(f"target: what {name} returned {why}; compute it from the output with torch, undetached")
    return question
