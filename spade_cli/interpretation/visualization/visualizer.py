"""What a visualization is, and what the loops of all of them ask a network: how much a picture excites its channel."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError
from spade_cli.interpretation.channels import Channel, channel_axis, observe_layers
from spade_cli.networks.modes_and_seeds import eval_mode
from spade_cli.networks.scores import Output
from spade_cli.sizes import Size

Objective = Callable[[Tensor, int], Tensor]  # (activations (1, C, ...) of one picture, channel) -> scalar

DENSE_WEIGHT = 1.0  # strength of the dense network's slopes beside those of the traces, where it sees nothing yet


@dataclass(frozen=True)
class Dense:
    """The network that traces were pruned from, and how its scores become probabilities."""

    network: nn.Module
    output: Output = Output.SOFTMAX


class Visualizer(Protocol):
    """A visualization with its settings bound."""

    def __call__(
        self,
        networks: Sequence[nn.Module],
        targets: Sequence[Channel],
        /,
        *,
        size: Size,
        mean: Sequence[float],
        std: Sequence[float],
        steps: int = ...,
        seed: int = 0,
        dense: Dense | None = None,
        dense_weight: float = ...,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """One picture for each target, (targets, 3, H, W) in [0, 1], of this size.

        A picture climbs the mean of its target's response over the networks: the dense network alone, or several traces
        of one image. They take normalised pictures. dense: the network that they are traces of, which corrects the
        second half of the steps (`observe_slopes`). steps: 0 returns the start. on_step: called with (step, steps)
        after each step.
        """
        ...


def takes_image(function: Callable[..., Tensor]) -> bool:
    """Whether a visualizer starts from the image instead of noise, and so has to be given it."""
    return "image" in inspect.signature(function).parameters


def bind_image(function: Callable[..., Tensor], view: Tensor) -> Callable[..., Tensor]:
    """The visualizer with the image (1, 3, H, W) in [0, 1] that it starts from; others as they are."""
    return partial(function, image=view) if takes_image(function) else function


def normalisation(mean: Sequence[float], std: Sequence[float], device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function pictures (N, 3, H, W) in [0, 1] -> what the network is shown."""
    to_mean, to_std = (torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in (mean, std))
    return lambda pictures: (pictures - to_mean) / to_std


@contextmanager
def observe_responses(
    networks: Sequence[nn.Module],
    targets: Sequence[Channel],
    mean: Sequence[float],
    std: Sequence[float],
    objective: Objective | None = None,
) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function pictures (N, 3, H, W) in [0, 1] -> how much each excites its target, (N,).

    The response is the mean of the target's channel or direction, or what the objective says, and of that the mean over
    the networks. They are in eval mode meanwhile. SpadeError where a response does not depend on the picture.
    """
    normalise = normalisation(mean, std, device_of(networks[0]))
    with ExitStack() as stack:
        ask = [stack.enter_context(_observe_network(network, targets, objective)) for network in networks]

        def respond(pictures: Tensor) -> Tensor:
            seen = normalise(pictures)
            return torch.stack([one(seen) for one in ask]).mean(0)

        yield respond


class FindSlopes(Protocol):
    """What a step climbs."""

    def __call__(self, shown: Tensor, corrected: bool) -> tuple[Tensor, Tensor]:
        """Shown (N x views, 3, H, W) -> the pictures' responses (N,), and slopes in the shape of `shown`."""
        ...


@contextmanager
def observe_slopes(
    networks: Sequence[nn.Module],
    targets: Sequence[Channel],
    mean: Sequence[float],
    std: Sequence[float],
    objective: Objective | None = None,
    *,
    views: int = 1,
    dense: Dense | None = None,
    dense_weight: float = DENSE_WEIGHT,
) -> Iterator[FindSlopes]:
    """A function from `views` views of each picture to the pictures' responses, means over the views, and the slopes.

    corrected: a pruned network lacks weights that would speak against a class, and what excites it need not be anything
    that the dense network takes for that class. So the slopes of the dense network's score are added to those of a
    picture of a class, scaled to dense_weight x (1 - p) times their strength (the root of the sum of squares), where p
    is the dense network's mean probability of the class in these views: as soon as it sees the class it has no say any
    more. It has none either where the slopes are zero: it would hide that a class is dead on the trace.
    """
    shown_targets = [target for target in targets for _ in range(views)]
    corrects = dense is not None and dense_weight and objective is None
    normalise = normalisation(mean, std, device_of(networks[0]))
    with ExitStack() as stack:
        respond = stack.enter_context(observe_responses(networks, shown_targets, mean, std, objective))
        if dense is not None:
            stack.enter_context(eval_mode(dense.network))

        def find_slopes(shown: Tensor, corrected: bool) -> tuple[Tensor, Tensor]:
            responses = respond(shown).view(-1, views).mean(1)  # (N,)
            # of the sum, so that no picture's step depends on the others; to what is shown: none lands on a network
            (slopes,) = torch.autograd.grad(responses.sum(), [shown])
            if corrected and corrects and dense is not None:
                for n, target in enumerate(targets):
                    if target.layer is None:  # of other layers nobody knows what it is to see a channel
                        own = slice(n * views, (n + 1) * views)
                        slopes[own] += dense_weight * _find_correction(
                            dense, target, shown[own], slopes[own], normalise
                        )
            return responses.detach(), slopes

        yield find_slopes


def _find_correction(
    dense: Dense, target: Channel, shown: Tensor, slopes: Tensor, normalise: Callable[[Tensor], Tensor]
) -> Tensor:
    """The slopes of the dense network's score of one class, (views, 3, H, W), as strong as it is missed."""
    leaf = shown.detach().requires_grad_()
    logits = dense.network(normalise(leaf))  # (views, classes)
    scores = target.read(logits)
    (ways,) = torch.autograd.grad(scores.sum(), [leaf])
    if target.others:  # a contrast: as `Question.probability`
        seen = scores.detach().sigmoid().mean().item()
    else:
        seen = dense.output.probabilities(logits)[:, target.channel].mean().item()
    strength = ways.norm()
    return ways * (0 if strength == 0 else (1 - seen) * slopes.norm() / strength)


@contextmanager
def _observe_network(
    network: nn.Module, targets: Sequence[Channel], objective: Objective | None
) -> Iterator[Callable[[Tensor], Tensor]]:
    """A function normalised pictures (N, 3, H, W) -> one network's responses (N,)."""
    modules = dict(network.named_modules())

    with observe_layers(network, [target.layer for target in targets]) as observe:

        def respond(pictures: Tensor) -> Tensor:
            outputs = observe(pictures.clone())  # a clone: the first layer may write into it
            responses, sides = [], pictures.shape[-2:]
            for n, target in enumerate(targets):
                rows = outputs[target.layer].shape[0] // len(pictures)  # several a picture: windows (N x windows, T, C)
                output = outputs[target.layer][n * rows : (n + 1) * rows]
                layer = modules.get(target.layer or "")
                if objective is None:
                    responses.append(target.read(output, layer, sides).mean())
                elif target.others:
                    raise SpadeError(f"visualization of {target}: an objective takes one channel, not a direction")
                else:
                    axis = channel_axis(output.shape, layer, sides)
                    responses.append(objective(output.movedim(axis, 1), target.channel))
            for target, response in zip(targets, responses, strict=True):
                if not response.requires_grad:
                    raise SpadeError(f"visualization of {target}: the output does not depend on the picture")
            return torch.stack(responses)

        yield respond


def find_not_finite(responses: Tensor, gradients: Tensor) -> list[int]:
    """Which pictures' responses (N,) are not finite; where all are, which gradients (N, ...).

    A weight that is not finite spoils the gradients of all the pictures, by 0 x nan, but the response of its own only.
    """
    pictures = (~torch.isfinite(responses)).nonzero().flatten().tolist()
    return pictures or (~torch.isfinite(gradients).flatten(1).all(1)).nonzero().flatten().tolist()


def check_finite(targets: Sequence[Channel], responses: Tensor, gradients: Tensor, step: int, steps: int) -> None:
    """SpadeError, with the targets' names, where responses (N,) or gradients (N, ...) are not finite any more."""
    if lost := find_not_finite(responses, gradients):
        asked = ", ".join(str(targets[n]) for n in lost)
        raise SpadeError(f"visualization of {asked} stopped being finite at step {step} of {steps}")
