"""What a network is asked about an image: one class, a class against others, or any function of the output.

A question turns an output into one number, its score. Methods of explanation know classes only, so a question that is
more than a class becomes one more output of the network: then every method explains it as it explains a class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spade_cli.networks.scores import Output


@dataclass(frozen=True)
class Question:
    """The score of a class, plus those of others times their weights; or what a function makes of the output.

    index: the class that is asked about. others: (weight, class) of each; a contrast has (-1, the other class).
    function: of the user's, (n, classes) -> (n,).

    >>> Question(0, ((-1.0, 2),)).score(torch.tensor([5.0, 0.0, 3.0]))
    tensor(2.)
    """

    index: int
    others: tuple[tuple[float, int], ...] = ()
    function: Callable[[Tensor], Any] | None = None

    @property
    def is_class(self) -> bool:
        """Whether one output of the network is the answer."""
        return not self.others and self.function is None

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes whose scores are asked about; none is known of a function."""
        return () if self.function is not None else (self.index, *(other for _, other in self.others))

    def score(self, logits: Tensor) -> Tensor:
        """Logits (..., classes) -> the score, (...)."""
        if self.function is not None:
            rows = logits.reshape(-1, logits.shape[-1])
            score: Tensor = self.function(rows)
            return score.reshape(logits.shape[:-1])
        return logits[..., self.index] + sum(weight * logits[..., other] for weight, other in self.others)

    def probability(self, logits: Tensor, output: Output) -> Tensor:
        """How sure a network is, (...) in float64 on the CPU, from logits (..., classes).

        The class's probability; of any other question the sigmoid of its score. For a contrast of two classes of a
        softmax that is the probability of the first where only these two can be the answer.
        """
        if self.is_class:
            return output.probabilities(logits)[..., self.index]
        return self.score(logits.detach().cpu().double()).sigmoid()

    def append_score(self, logits: Tensor) -> Tensor:
        """(n, classes) -> (n, classes + 1): the question's score is the last output."""
        return torch.cat([logits, self.score(logits)[:, None]], 1)


class AppendScore(nn.Module):
    """`Question.append_score` as the last layer of a network."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.question = question

    def forward(self, logits: Tensor) -> Tensor:  # noqa: D102
        return self.question.append_score(logits)
