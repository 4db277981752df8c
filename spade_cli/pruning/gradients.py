"""samples -> gradients: how the question's score depends on each weight, for pruners that ask for it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spade_cli.networks.modes_and_seeds import eval_mode
from spade_cli.networks.question import Question
from spade_cli.pruning.layers import layer_modules, weight_matrix


def measure_gradients(
    model: nn.Module, samples: Iterable[Tensor], names: Sequence[str], question: Question
) -> dict[str, Tensor]:
    """The mean over the samples of |d score / d weight|, by layer, as the weight's matrix (g, r, c).

    samples: normalised batches (N, 3, H, W) on the model's device. Each sample has a pass of its own, since the
    absolute value is taken before the mean. A weight that the score does not depend on has zeros.
    """
    modules = layer_modules(model)
    weights: list[Tensor] = [modules[name].weight for name in names]  # type: ignore[misc]
    totals, count = [torch.zeros_like(weight) for weight in weights], 0
    with eval_mode(model), _require_gradients(weights), torch.enable_grad():
        for batch in samples:
            for one in batch.split(1):
                score = question.score(model(one)[0])
                found = torch.autograd.grad(score, weights, allow_unused=True)
                for total, gradient in zip(totals, found, strict=True):
                    if gradient is not None:
                        total += gradient.abs()
                count += 1
    shapes = [weight_matrix(modules[name]).shape for name in names]
    return {
        name: (total.detach() / count).float().reshape(shape)
        for name, total, shape in zip(names, totals, shapes, strict=True)
    }


@contextmanager
def _require_gradients(weights: Sequence[Tensor]) -> Iterator[None]:
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        for weight, had in zip(weights, before, strict=True):
            weight.requires_grad_(had)
