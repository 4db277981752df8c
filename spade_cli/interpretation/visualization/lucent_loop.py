"""Lucent's visualization (`interpreter.visualization=lucent`): each step sees one view, moved and turned a little.

Lucent's Fourier parameterisation, decorrelated colours, transforms and objective (Olah et al. 2017), in a loop of our
own: lucent's own loop leaves hooks behind, swallows errors, and runs on the device it found at import.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.interpretation.channels import Channel
from spade_cli.interpretation.own_methods import own_objective
from spade_cli.interpretation.visualization.visualizer import (
    DENSE_WEIGHT,
    Dense,
    Objective,
    check_finite,
    observe_slopes,
)
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.sizes import Size, find_sides


def visualize_with_lucent(
    networks: Sequence[nn.Module],
    targets: Sequence[Channel],
    *,
    size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int = 512,
    learning_rate: float = 0.05,
    seed: int = 0,
    objective: Objective | None = None,
    dense: Dense | None = None,
    dense_weight: float = DENSE_WEIGHT,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """One picture for each target, all in one batch: float32 on the CPU, (targets, 3, H, W), in [0, 1].

    As `visualize`, but at each step the batch is moved, scaled and turned a little, by lucent's standard transforms,
    brought back to `size`, normalised with `mean` and `std`, and shown to the networks as it is. A start that does not
    excite a channel stays as it is.
    """
    objective, device = None if objective is None else own_objective(objective), device_of(networks[0])
    height, width = find_sides(size)
    with torch.enable_grad(), seed_generators(seed, device), _lucent_on(device) as (fft_image, colours, transforms):
        (spectrum,), pixels = fft_image([len(targets), 3, height, width])  # lucent's noise, in Fourier space
        optimizer = torch.optim.Adam([spectrum], lr=learning_rate)

        def pictures() -> Tensor:
            return torch.sigmoid(torch.einsum("nchw,dc->ndhw", pixels(), colours))  # (N, 3, H, W)

        with observe_slopes(networks, targets, mean, std, objective, dense=dense, dense_weight=dense_weight) as ask:
            for step in range(1, steps + 1):
                views = F.interpolate(transforms(pictures()), size=(height, width), mode="bilinear", align_corners=True)
                responses, slopes = ask(views, 2 * step > steps)  # (N,), and as views
                (spectrum.grad,) = torch.autograd.grad(views, [spectrum], -slopes)
                check_finite(targets, responses, spectrum.grad, step, steps)
                optimizer.step()
                if on_step is not None:
                    on_step(step, steps)
        return pictures().detach().float().cpu()


@contextmanager
def _lucent_on(device: torch.device) -> Iterator[tuple[Callable[..., Any], Tensor, Callable[[Tensor], Tensor]]]:
    """Lucent's (Fourier image, colour matrix (3, 3), standard transforms) on a device of our choice.

    Lucent fixes its device at import in two of its modules; they are set for the time of the `with`. Imported here: it
    takes seconds, and kornia 0.4.1, which it needs, greets today's torch with a deprecation notice for every function
    it scripts.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*torch\.jit\.script", Warning)
        from lucent.optvis import transform
        from lucent.optvis.param import color, spatial
    # private to lucent (seen in torch-lucent 0.1.8): `device` of both modules, and the colours' matrix
    devices = spatial.device, transform.device
    spatial.device = transform.device = device
    try:
        colours = torch.tensor(color.color_correlation_normalized, dtype=torch.float32, device=device)
        yield spatial.fft_image, colours, transform.compose(transform.standard_transforms)
    finally:
        spatial.device, transform.device = devices
