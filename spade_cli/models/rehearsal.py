"""The rehearsal: before any work, the network itself is tried once on all that later steps assume of it.

An assumption that fails is a UserError that names the cause. One that only makes results uncertain is a note, and
becomes a flag of every result. Pictures here are (1, 3, H, W), normalised, on the network's device.
"""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import functional as F

from spade_cli.errors import UserError, error_line
from spade_cli.models.classifier import Preprocessing
from spade_cli.networks.copies import check_own_weights, copy_network, refuse_shared_layers
from spade_cli.networks.modes_and_seeds import generators_of, seed_generators

PATCHES = 9  # a side of a rehearsal picture: areas of colour, as in photographs, not noise
SAME = 1e-3  # of the largest score: rounding, which batching and threads change, is a hundred times less in float32
RUNS = 4  # of one picture, where random numbers are drawn: dropout on a few scores may draw the same twice
MOVE = 0.1  # of each weight's standard deviation: the change to the copy's weights


@dataclass
class _Pass:
    """One forward pass."""

    answer: Tensor  # (N, classes)
    drew: bool  # random numbers were drawn
    trains: tuple[str, ...]  # modules that were in training mode afterwards


def draw_rehearsal_pictures(preprocessing: Preprocessing, device: torch.device) -> list[Tensor]:
    """Three pictures that differ everywhere: patches of colour, their negative, and grey."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(1, 3, PATCHES, PATCHES, generator=generator)
    view = F.resize(patches, list(preprocessing.sides), antialias=True).clamp(0, 1)
    grey = torch.full_like(view, 0.5)
    return [preprocessing.normalise(one.to(device)) for one in (view, 1 - view, grey)]


def rehearse(
    network: nn.Module,
    pictures: Sequence[Tensor],
    asked: str,
    *,
    original: nn.Module | None = None,
    trained: bool = True,
) -> tuple[str, ...]:
    """Try what is assumed of a network that returns (N, classes); returns what is in doubt, one line each.

    Raises UserError where its answer does not depend on the picture or has no gradient, where it fails on two pictures
    at once, or where a copy of it does not run on its own layers. original: the network that this one is a copy of, if
    it is a copy. trained: False allows one answer to every picture, as untrained vision transformers give.
    """
    # one seed for all runs: two runs draw different numbers, two rehearsals the same
    with seed_generators(0, pictures[0].device):
        return _rehearse(network, pictures, asked, network if original is None else original, trained)


def _rehearse(
    network: nn.Module, pictures: Sequence[Tensor], asked: str, original: nn.Module, trained: bool
) -> tuple[str, ...]:
    first, second = pictures[0], pictures[1]
    state = {name: value.detach().clone() for name, value in network.named_buffers()}
    alone, again = _run(network, first), _run(network, first)
    for _ in range(RUNS - 2):
        if again.drew and _is_same(again.answer, alone.answer):
            again = _run(network, first)
    if trained:
        _check_picture_matters(network, pictures, asked)
    _check_gradient(network, first, asked)
    try:
        batched = _run(network, torch.cat([first, second]))
    except Exception as error:  # whatever the user's network raises about two pictures
        raise UserError(
            f"{asked} fails on two pictures at once ({type(error).__name__}: {error_line(error)}); "
            "let its forward keep the first axis, the pictures of a batch"
        ) from error
    notes = _find_doubts(network, state, alone, again, batched)
    _check_copy(network, original, first, asked, trained)
    return notes


@torch.no_grad()
def _run(network: nn.Module, x: Tensor, seed: int | None = None) -> _Pass:
    """One pass; with a seed, random numbers are drawn from it, and afterwards they go on as if none had been drawn."""
    with nullcontext() if seed is None else seed_generators(seed, x.device):
        before = _random_states(x.device)
        answer = network(x.clone())
        drew = before != _random_states(x.device)
    trains = tuple(name or "the network itself" for name, module in network.named_modules() if module.training)
    return _Pass(answer.detach().clone(), drew, trains)


def _random_states(device: torch.device) -> tuple[bytes, ...]:
    """States of all generators (torch on the CPU and this device, Python, NumPy); drawing a number changes one."""
    others = (str(random.getstate()), str(np.random.get_state()))
    states = [generator.get_state().numpy().tobytes() for generator in generators_of(device)]
    return (*states, *(state.encode() for state in others))


def _check_picture_matters(network: nn.Module, pictures: Sequence[Tensor], asked: str) -> None:
    first = _run(network, pictures[0], seed=0).answer
    same = all(torch.equal(first, _run(network, picture, seed=0).answer) for picture in pictures[1:])
    if same and bool(torch.isfinite(first).all()):
        raise UserError(
            f"{asked} gives every picture the same answer, so there is nothing to explain; check that its forward uses "
            "the picture, and its weights"
        )


def _check_gradient(network: nn.Module, picture: Tensor, asked: str) -> None:
    with torch.enable_grad(), seed_generators(0, picture.device):
        answer = network(picture.clone().requires_grad_())
    if not answer.requires_grad or answer.grad_fn is None:
        raise UserError(
            f"{asked} gives no gradients, which explanations are made of: take no_grad(), detach() and argmax() "
            "out of its forward"
        )


def _find_doubts(
    network: nn.Module, state: dict[str, Tensor], alone: _Pass, again: _Pass, batched: _Pass
) -> tuple[str, ...]:
    """Whether answers change from call to call or within a batch, and why: one line, or none."""
    changes = not _is_same(alone.answer, again.answer)
    if not changes and _is_same(again.answer, batched.answer[:1]):
        return ()
    reason = _find_reason(network, state, again)
    if changes:
        return (
            f"the network answers the same picture differently from call to call{reason}: maps and figures hold for "
            "one of its answers",
        )
    return (
        f"the network answers a picture differently alone and beside another{reason}: what is measured on batches of "
        "samples may not hold for the picture",
    )


def _find_reason(network: nn.Module, state: dict[str, Tensor], run: _Pass) -> str:
    if run.trains:
        more = f" and {len(run.trains) - 1} more modules" if len(run.trains) > 1 else ""
        return f", since its forward switches {run.trains[0]}{more} to training mode"
    if run.drew:
        return ", since it draws random numbers in eval mode (dropout or noise)"
    batch_norms = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
    ]
    if batch_norms:
        return f", since {batch_norms[0]} normalises by the statistics of each batch (track_running_stats=False)"
    changed = [name for name, value in network.named_buffers() if name in state and not torch.equal(value, state[name])]
    return f", since it changes its own state ({changed[0]})" if changed else ", for a reason that is not visible"


def _is_same(first: Tensor, second: Tensor) -> bool:
    largest = float(torch.cat([first, second]).nan_to_num(0, 0, 0).abs().max())
    return bool(torch.allclose(first, second, rtol=0, atol=SAME * largest, equal_nan=True))


def _check_copy(network: nn.Module, original: nn.Module, picture: Tensor, asked: str, trained: bool) -> None:
    """A trace is a copy with changed weights: it has to run on its own layers, and the network must not change."""
    copy = copy_network(network, asked)
    copy.eval()
    before = _run(network, picture, seed=0).answer
    with check_own_weights(original, network, asked=asked):
        _run(copy, picture, seed=0)
    _change_weights(copy)
    has_weights = any(True for _ in copy.parameters())
    if has_weights and trained and torch.equal(_run(copy, picture, seed=0).answer, before):
        refuse_shared_layers(network, "", asked)
    again = _run(network, picture, seed=0).answer
    if not _is_same(again, before) and _is_same(_run(network, picture, seed=0).answer, again):
        raise UserError(
            f"{asked} changes when a copy of it is changed: they share weights; keep all weights in the network itself"
        )


@torch.no_grad()
def _change_weights(network: nn.Module) -> None:
    """Change every floating-point parameter a little, in place."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.is_floating_point() and parameter.numel():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = float(parameter.float().std()) if parameter.numel() > 1 else float(parameter.float().abs().max())
            parameter.add_((MOVE * (scale or 1.0) * noise).to(parameter))
