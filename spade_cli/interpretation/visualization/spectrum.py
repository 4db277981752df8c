"""Pictures that a channel responds to most, climbed on their spectrum through random crops; the default.

A picture is made of its frequencies, low ones with large steps, in colours that are decorrelated in photographs (Olah
et al. 2017, whose matrix this is). Each step shows random crops of it: what excites the channel at any place and size
is a thing, and not a texture that fits one view (MACO, Fel et al. 2023, samples crops alike).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.interpretation.channels import Channel
from spade_cli.interpretation.own_methods import own_objective
from spade_cli.interpretation.visualization.climb import See, climb_pictures
from spade_cli.interpretation.visualization.visualizer import DENSE_WEIGHT, Dense, Objective, observe_slopes
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.sizes import Size, find_sides

DECAY = 1.5  # the power of the frequency that a coefficient is divided by
START = 0.01  # standard deviation of the coefficients at the start: grey to the eye
# Square root of the covariance of ImageNet's colours, (red, green, blue) by (brightness, and two differences), divided
# by the norm of its largest column; as in lucid and lucent.
COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]) / 0.46194


def visualize(
    networks: Sequence[nn.Module],
    targets: Sequence[Channel],
    *,
    size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int = 64,
    learning_rate: float = 0.03,
    crops: int = 4,
    seed: int = 0,
    objective: Objective | None = None,
    dense: Dense | None = None,
    dense_weight: float = DENSE_WEIGHT,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """One picture for each target, all in one batch: float32 on the CPU, (targets, 3, H, W), in [0, 1].

    Each picture climbs the mean of its target's channel: over positions of a feature map (N, C, H, W) or (N, H, W, C),
    over tokens of (N, T, C), or the value itself of a vector (N, C); over the networks; and over the crops of a step.
    Crops are enlarged to `size`, the side of a square or (height, width), normalised with `mean` and `std`, and the
    same for all networks and pictures. dense, dense_weight: see `observe_slopes`.

    objective: (activations (1, C, ...) of one crop, channel) -> scalar, climbed instead; see `OwnObjective`.
    on_step: called with (step, steps) after each. Networks are unchanged: mode, gradients and hooks are as before.
    Errors: SpadeError where a value stops being finite; a network's own errors are not caught. Where the start does not
    excite a channel, leaky ReLUs show the way; a picture that never excites it, as over a dead channel, is returned as
    it started, grey: ask `is_blank`.
    """
    objective, device = None if objective is None else own_objective(objective), device_of(networks[0])
    generator = torch.Generator().manual_seed(seed)  # our own: a network that draws numbers changes no crop
    with torch.enable_grad(), seed_generators(seed, device):
        start = draw_spectrum(size, generator).to(device).expand(len(targets), *[-1] * 4)
        spectra = start.clone().requires_grad_()  # (N, 3, H, W // 2 + 1, 2)
        watch = observe_slopes(
            networks, targets, mean, std, objective, views=crops, dense=dense, dense_weight=dense_weight
        )
        with watch as ask:

            def find_slopes(see: See, corrected: bool) -> tuple[Tensor, Tensor]:
                shown = see(make_pictures(spectra, size))
                responses, slopes = ask(shown, corrected)
                return responses, torch.autograd.grad(shown, [spectra], slopes)[0]

            awake = climb_pictures(
                spectra,
                find_slopes,
                targets,
                size=size,
                steps=steps,
                learning_rate=learning_rate,
                crops=crops,
                generator=generator,
                on_step=on_step,
            )
        spectra = torch.where(awake.view(-1, *[1] * 4).to(device), spectra, start)
        return make_pictures(spectra, size).detach().float().cpu()


def draw_spectrum(size: Size, generator: torch.Generator) -> Tensor:
    """Noise as the coefficients of a picture (H, W): real and imaginary parts, (1, 3, H, W // 2 + 1, 2)."""
    height, width = find_sides(size)
    return START * torch.randn(1, 3, height, width // 2 + 1, 2, generator=generator)


def scale_frequencies(size: Size) -> Tensor:
    """What a coefficient of each frequency is multiplied with, (H, W // 2 + 1): mean 1, as 1 / f^1.5.

    f in cycles a pixel, the same along both axes, but at least one cycle along the picture's longer side.
    """
    height, width = find_sides(size)
    down, across = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    frequencies = torch.hypot(down[:, None], across[None]).clamp(min=1 / max(height, width))
    scale = frequencies**-DECAY
    return scale / scale.mean()


def make_pictures(spectra: Tensor, size: Size) -> Tensor:
    """Coefficients (N, 3, H, W // 2 + 1, 2) -> pictures (N, 3, H, W) in [0, 1]."""
    scaled = torch.view_as_complex(spectra) * scale_frequencies(size).to(spectra.device)
    values = torch.fft.irfft2(scaled, s=find_sides(size), norm="ortho")
    return torch.sigmoid(torch.einsum("nchw,dc->ndhw", values, COLOURS.to(values)))
