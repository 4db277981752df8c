"""Does a trace still say what the dense network says? About the image itself, and about samples of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spade_cli.networks.copies import copy_for_eval
from spade_cli.networks.modes_and_seeds import ask_network
from spade_cli.networks.question import Question
from spade_cli.networks.scores import Output
from spade_cli.pruning.layers import layer_modules
from spade_cli.records import Fidelity

LEAST_KEPT = 0.5  # of the question's probability: a trace that lost half of it explains something else


@dataclass(frozen=True)
class Judge:
    """Measures the fidelity of pruned copies of one network, on one image.

    x: (1, 3, H, W) normalised; logits: (classes,) of the dense network on it. samples: (n, 3, H, W) normalised, in
    batches; sample_logits: (n, classes) of the dense network on them; without samples there is no KL.
    """

    x: Tensor
    logits: Tensor
    question: Question
    samples: Sequence[Tensor] = ()
    sample_logits: Tensor | None = None
    output: Output = Output.SOFTMAX

    @torch.no_grad()
    def __call__(
        self, network: Callable[[Tensor], Tensor], holds: Callable[[Fidelity], bool] = lambda _: True
    ) -> Fidelity:
        """The fidelity of a copy of the dense network whose weights were changed.

        Where it does not hold on the image, the samples are not asked.
        """
        said = ask_network(network, self.x)[0]
        before, after = (float(self.question.probability(one, self.output)) for one in (self.logits, said))
        on_image = Fidelity(bool(self.output.same_answer(self.logits, said)), before, after, None)
        if self.sample_logits is None or not holds(on_image):
            return on_image
        on_samples = torch.cat([network(batch).cpu() for batch in self.samples])  # (n, classes)
        return replace(on_image, kl=agreement(self.sample_logits, on_samples, self.output)["kl"])


@torch.no_grad()
def breaking_layer(
    dense: nn.Module, trace: nn.Module, pruned: Sequence[str], judge: Judge, holds: Callable[[Fidelity], bool]
) -> str | None:
    """The layer at which the fidelity no longer holds when the trace's weights are put in one by one, from the output.

    pruned: layers in order. None where it holds with all of them.
    """
    network = copy_for_eval(dense)
    own, theirs = layer_modules(network), layer_modules(trace)
    for name in reversed(pruned):
        own[name].weight.copy_(theirs[name].weight)  # type: ignore[operator, arg-type]
        if not holds(judge(network)):
            return name
    return None


def agreement(dense: Tensor, trace: Tensor, output: Output = Output.SOFTMAX) -> dict[str, float]:
    """How alike two networks are on the samples, from their logits (samples, classes).

    agreement: share of samples with the same answer; kl: mean KL(dense || trace) in nats (see `Output.divergence`).
    """
    same = output.same_answer(dense, trace).double().mean()
    kl = output.divergence(dense, trace).mean()
    return {"agreement": float(same), "kl": max(0.0, float(kl))}  # rounding can leave -1e-17
