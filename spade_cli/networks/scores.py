"""What a network's scores mean: one class out of many (softmax), or independent labels (sigmoid).

Scores are logits, (..., classes); ... stands for any leading axes.
"""

from collections.abc import Callable
from enum import StrEnum

from torch import Tensor
from torch.nn import functional as F

MOST_LABELS = 3  # that a line names


class Output(StrEnum):
    """How scores become probabilities, and which classes an answer holds.

    >>> Output("sigmoid").probabilities(torch.tensor([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """

    SOFTMAX = "softmax"  # classes exclude each other: the answer is the likeliest one
    SIGMOID = "sigmoid"  # each label is a question of its own: the answer is every label above 0.5

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., classes) in float64, on the CPU (Apple's MPS has no float64)."""
        scores = logits.detach().cpu().double()
        return scores.softmax(-1) if self is Output.SOFTMAX else scores.sigmoid()

    def answers(self, logits: Tensor) -> Tensor:
        """Which classes the answer holds, bool (..., classes): one (softmax), or any number (sigmoid)."""
        scores = logits.detach().cpu()
        if self is Output.SIGMOID:
            return scores > 0
        return F.one_hot(scores.argmax(-1), scores.shape[-1]).bool()

    def same_answer(self, dense: Tensor, trace: Tensor) -> Tensor:
        """Whether both networks give the same answer, bool (...)."""
        return (self.answers(dense) == self.answers(trace)).all(-1)

    def divergence(self, dense: Tensor, trace: Tensor) -> Tensor:
        """KL(dense || trace) in nats, (...): of one distribution (softmax), or summed over independent labels."""
        p, q = dense.detach().cpu().double(), trace.detach().cpu().double()
        if self is Output.SOFTMAX:
            return F.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(-1)
        yes = F.kl_div(F.logsigmoid(q), F.logsigmoid(p), reduction="none", log_target=True)
        no = F.kl_div(F.logsigmoid(-q), F.logsigmoid(-p), reduction="none", log_target=True)
        return (yes + no).sum(-1)

    def name_answer(self, logits: Tensor, label: Callable[[int], str]) -> str:
        """The answer's classes in words, likeliest first, from logits (classes,)."""
        held = self.answers(logits)
        order = [int(index) for index in logits.detach().cpu().argsort(descending=True) if held[index]]
        if not order:
            return "no label above 50%"
        more = f" and {len(order) - MOST_LABELS} more" if len(order) > MOST_LABELS else ""
        return ", ".join(label(index) for index in order[:MOST_LABELS]) + more

    def describe(self, classes: int) -> str:
        """What the scores mean, in words for a report."""
        if self is Output.SOFTMAX:
            return f"softmax over {classes} classes"
        return "sigmoid of one score" if classes == 1 else f"sigmoid of each of {classes} labels"
