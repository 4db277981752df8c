"""What a visualization is, and what the loops of all of them ask a network: how much a picture excites its channel."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError
from spade_cli.interpretation.channels import Channel, channel_axis, observe_layers

Objective = Callable[[Tensor, int], Tensor]  # (activations (1, C, ...) of one picture, channel) -> scalar


class Visualizer(Protocol):
    """A visualization with its settings bound."""

    def __call__(
        self,
        model: nn.Module,
        targets: Sequence[Channel],
        /,
        *,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int = 0,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """One picture for each target, (targets, 3, size, size) in [0, 1], of a model that takes normalised pictures.

        on_step: called with (step, steps) after each step.
        """
        ...


def normalisation(mean: Sequence[float], std: Sequence[float], device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function pictures (N, 3, H, W) in [0, 1] -> what the network is shown."""
    to_mean, to_std = (torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in (mean, std))
    return lambda pictures: (pictures - to_mean) / to_std


@contextmanager
def observe_responses(
    model: nn.Module,
    targets: Sequence[Channel],
    mean: Sequence[float],
    std: Sequence[float],
    objective: Objective | None = None,
) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function pictures (N, 3, size, size) in [0, 1] -> how much each excites its target, (N,).

    The response is the mean of the target's channel, or what the objective says. The model is in eval mode meanwhile.
    SpadeError where a response does not depend on the picture.
    """
    normalise, modules = normalisation(mean, std, device_of(model)), dict(model.named_modules())

    with observe_layers(model, [target.layer for target in targets]) as observe:

        def respond(pictures: Tensor) -> Tensor:
            outputs = observe(normalise(pictures))
            responses = []
            for n, target in enumerate(targets):
                rows = outputs[target.layer].shape[0] // len(pictures)  # several a picture: windows (N x windows, T, C)
                output = outputs[target.layer][n * rows : (n + 1) * rows]
                layer = modules.get(target.layer or "")
                if objective is None:
                    responses.append(channel_mean(output, target.channel, layer))
                else:
                    responses.append(objective(output.movedim(channel_axis(output.shape, layer), 1), target.channel))
            for target, response in zip(targets, responses, strict=True):
                if not response.requires_grad:
                    raise SpadeError(f"visualization of {target}: the output does not depend on the picture")
            return torch.stack(responses)

        yield respond


def channel_mean(output: Tensor, channel: int, layer: nn.Module | None = None) -> Tensor:
    """Mean of one channel, a scalar: lucent's `channel` objective without its minus sign."""
    return output.select(channel_axis(output.shape, layer), channel).mean()


def find_not_finite(responses: Tensor, gradients: Tensor) -> list[int]:
    """Which pictures' responses (N,) are not finite; where all are, which gradients (N, ...).

    A weight that is not finite spoils the gradients of all the pictures, by 0 x nan, but the response of its own only.
    """
    pictures = (~torch.isfinite(responses)).nonzero().flatten().tolist()
    return pictures or (~torch.isfinite(gradients).flatten(1).all(1)).nonzero().flatten().tolist()
