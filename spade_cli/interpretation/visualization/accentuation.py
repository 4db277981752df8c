"""What a channel responds to in one image: the image climbs, and only what changed in it stays visible.

Feature accentuation (Hamblin et al. 2024, arXiv 2402.10039): a visualization that starts from an image instead of
noise, and is held near it. The distance is that of pixels; a layer to measure features in would have to be found anew
in every network.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur, rgb_to_grayscale

from spade_cli.devices import device_of
from spade_cli.interpretation.channels import Channel
from spade_cli.interpretation.own_methods import own_objective
from spade_cli.interpretation.visualization.climb import See, climb_pictures
from spade_cli.interpretation.visualization.spectrum import COLOURS, make_pictures, scale_frequencies
from spade_cli.interpretation.visualization.visualizer import DENSE_WEIGHT, Dense, Objective, observe_slopes
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.sizes import Size

NEAREST = 0.02  # to black and white, in brightness: a logit further out hardly moves any more
BLUR = (
    1 / 64
)  # standard deviation of the opacity's blur, as a share of the side of a square as large: no pixel stands alone
OPAQUE = 0.95  # quantile of the change at which a picture is opaque
FADED = 0.25  # how much of the image's grey is left on white where nothing changed


def accentuate(
    networks: Sequence[nn.Module],
    targets: Sequence[Channel],
    *,
    image: Tensor,
    size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int = 64,
    learning_rate: float = 0.05,
    crops: int = 4,
    reach: float = 0.2,
    seed: int = 0,
    objective: Objective | None = None,
    dense: Dense | None = None,
    dense_weight: float = DENSE_WEIGHT,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """One picture for each target, (targets, 3, H, W) in [0, 1]: the image (1, 3, H, W), accentuated.

    As `visualize`, from the image's spectrum. A step climbs the response, its slopes scaled to a root mean square of 1
    over the picture, and -|picture - image|^2 / (2 reach): a pixel of average slope moves by `reach` at most, whatever
    the channel's unit is. The result is opaque where the picture changed most, and elsewhere the image in pale grey.
    A picture whose channel never responds is returned grey; with steps=0, the image.
    """
    objective, device = None if objective is None else own_objective(objective), device_of(networks[0])
    with torch.enable_grad(), seed_generators(seed, device):
        start = find_spectrum(image.to(device)).expand(len(targets), *[-1] * 4)
        spectra = start.clone().requires_grad_()  # (N, 3, H, W // 2 + 1, 2)
        begun = make_pictures(start, size)  # the image, its black and white a little less so
        watch = observe_slopes(
            networks, targets, mean, std, objective, views=crops, dense=dense, dense_weight=dense_weight
        )
        with watch as ask:

            def find_slopes(see: See, corrected: bool) -> tuple[Tensor, Tensor]:
                pictures = make_pictures(spectra, size)
                shown = see(pictures)
                responses, slopes_shown = ask(shown, corrected)
                (slopes,) = torch.autograd.grad(shown, [pictures], slopes_shown, retain_graph=True)
                strength = slopes.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
                ways = slopes / strength - (pictures.detach() - begun) / reach
                ways = torch.where(strength == 0, 0, ways)  # a silent picture is not pulled back
                return responses, torch.autograd.grad(pictures, [spectra], ways)[0]

            awake = climb_pictures(
                spectra,
                find_slopes,
                targets,
                size=size,
                steps=steps,
                learning_rate=learning_rate,
                crops=crops,
                generator=torch.Generator().manual_seed(seed),
                on_step=on_step,
            )
        found = make_pictures(spectra, size).detach().float().cpu()
    if not steps:
        return found
    shown = fade_unchanged(found, begun.detach().float().cpu())
    return torch.where(awake.view(-1, 1, 1, 1), shown, 0.5)


def find_spectrum(pictures: Tensor) -> Tensor:
    """The coefficients that `make_pictures` makes these pictures (N, 3, H, W) from."""
    logits = torch.logit(pictures, NEAREST)
    values = torch.einsum("nchw,dc->ndhw", logits, torch.linalg.inv(COLOURS).to(logits))
    height, width = pictures.shape[-2:]
    spectra = torch.fft.rfft2(values, norm="ortho") / scale_frequencies((height, width)).to(logits.device)
    return torch.view_as_real(spectra)


def fade_unchanged(pictures: Tensor, image: Tensor) -> Tensor:
    """Pictures (N, 3, H, W), opaque where they differ most from the image, over the image in pale grey."""
    change = (pictures - image).abs().mean(1, keepdim=True)  # (N, 1, H, W)
    deviation = BLUR * math.sqrt(change.shape[-2] * change.shape[-1])
    change = gaussian_blur(change, [2 * round(2 * deviation) + 1] * 2, [deviation] * 2)
    opaque = change.flatten(1).quantile(OPAQUE, dim=1).view(-1, 1, 1, 1)
    opacity = (change / opaque.clamp(min=torch.finfo(change.dtype).tiny)).clamp(max=1)
    pale = 1 - FADED * (1 - rgb_to_grayscale(image, 3))
    shown: Tensor = opacity * pictures + (1 - opacity) * pale
    return shown
