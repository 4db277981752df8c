"""Feature visualization: pictures that a channel of a network responds to most, by gradient ascent from noise.

Lucent's Fourier parameterisation, decorrelated colours, transforms and objective (Olah et al. 2017), in a loop of our
own: lucent's own loop leaves hooks behind, swallows errors, and runs on the device it found at import.
"""

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError, UserError
from spade_cli.interpretation.channels import channel_axis
from spade_cli.interpretation.own_methods import OwnObjective, own_objective
from spade_cli.networks.borrow import seed_generators
from spade_cli.networks.calls import watch_calls

# The starting noise has a standard deviation of 0.003 in each colour, a picture that shows something 0.1 or more.
BLANK = 0.01
CLOSE_NAMES = 3  # as many as fit on the error's line


@dataclass(frozen=True)
class Channel:
    """What a picture is to excite; layer: dotted name as in named_modules, None for the network's output."""

    layer: str | None
    channel: int

    def __str__(self) -> str:
        return f"{self.layer or 'output'}:{self.channel}"


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


def visualize(
    model: nn.Module,
    targets: Sequence[Channel],
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int = 512,
    learning_rate: float = 0.05,
    seed: int = 0,
    objective: Callable[[Tensor, int], Tensor] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """One picture for each target, all in one batch: float32 on the CPU, (targets, 3, size, size), in [0, 1].

    Each picture climbs the mean of its target's channel: over positions of a feature map (N, C, H, W) or (N, H, W, C),
    over tokens of (N, T, C), or the value itself of a vector (N, C). At each step the batch is moved, scaled and turned
    a little, by lucent's standard transforms, brought back to `size`, normalised with `mean` and `std`, and shown to
    the network.

    objective: (activations (1, C, ...) of one picture, channel) -> scalar, climbed instead; see `OwnObjective`.
    on_step: called with (step, steps) after each. The model is unchanged: mode, gradients and hooks are as before.
    Errors: SpadeError where a value stops being finite; the network's own errors are not caught. A picture that stayed
    grey, as over a dead channel, is returned: ask `is_blank`.
    """
    climbed = _response if objective is None else partial(_own_response, own_objective(objective))
    device = device_of(model)
    to_mean, to_std = (torch.tensor(list(values), device=device).view(1, 3, 1, 1) for values in (mean, std))
    with torch.enable_grad(), seed_generators(seed, device), _lucent_on(device) as (fft_image, colours, transforms):
        (spectrum,), pixels = fft_image([len(targets), 3, size, size])  # lucent's noise, in Fourier space
        optimizer = torch.optim.Adam([spectrum], lr=learning_rate)

        def pictures() -> Tensor:
            return torch.sigmoid(torch.einsum("nchw,dc->ndhw", pixels(), colours))  # (N, 3, size, size)

        modules = dict(model.named_modules())
        with observed(model, [target.layer for target in targets]) as observe:
            for step in range(1, steps + 1):
                seen = transforms(pictures())
                seen = F.interpolate(seen, size=(size, size), mode="bilinear", align_corners=True)
                outputs = observe((seen - to_mean) / to_std)
                each = [
                    climbed(_of_picture(outputs[t.layer], n, seen), t.channel, modules.get(t.layer or ""))
                    for n, t in enumerate(targets)
                ]
                for target, one in zip(targets, each, strict=True):
                    if not one.requires_grad:
                        raise SpadeError(f"visualization of {target}: the output does not depend on the picture")
                responses = torch.stack(each)  # (N,)
                # of the sum, so that no picture's step depends on the others; to the pictures: none lands on the model
                (spectrum.grad,) = torch.autograd.grad(-responses.sum(), [spectrum])
                if lost := _not_finite(responses, spectrum.grad):
                    asked = ", ".join(str(targets[n]) for n in lost)
                    raise SpadeError(f"visualization of {asked} stopped being finite at step {step} of {steps}")
                optimizer.step()
                if on_step is not None:
                    on_step(step, steps)
        return pictures().detach().float().cpu()


def is_blank(picture: Tensor) -> bool:
    """Whether a picture (3, H, W) in [0, 1] shows nothing: grey all over, or not finite."""
    if not torch.isfinite(picture).all():
        return True
    return bool(picture.flatten(1).std(dim=1).max() < BLANK)


def check_channels(model: nn.Module, image: Tensor, channels: Sequence[Channel]) -> None:
    """UserError where a layer or a channel does not exist, or no picture could change it.

    Found by one pass of `image` (1, 3, H, W).
    """
    modules = dict(model.named_modules())
    names = [*(name for name in modules if name), *_projections(model)]
    for asked in channels:
        if asked.layer is not None and asked.layer not in names:
            close = difflib.get_close_matches(asked.layer, names, CLOSE_NAMES)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise UserError(
                f"no layer '{asked.layer}' among the network's {len(names)} layers; {hint}`spade layers` lists them"
            )
    with torch.enable_grad(), observed(model, [asked.layer for asked in channels]) as observe:
        image = image.detach().clone().to(device_of(model)).requires_grad_()
        outputs = observe(image.clone())  # a clone: the first layer may write into it
    for asked in channels:
        where = f"layer '{asked.layer}'" if asked.layer else "the network's output"
        if asked.layer not in outputs:
            raise UserError(f"{where} was not run as a module, so it has no channels; take another (`spade layers`)")
        output = outputs[asked.layer]
        if not isinstance(output, Tensor) or output.dim() not in (2, 3, 4):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(
                f"{where} gives {found}; a channel needs (N, C, H, W), (N, C) or (N, T, C); take another layer"
            )
        count = output.shape[channel_axis(output.shape, modules.get(asked.layer or ""))]
        if not 0 <= asked.channel < count:
            raise UserError(f"channel {asked.channel} of {where} asked for; it has channels 0 to {count - 1}")
    for layer in dict.fromkeys(asked.layer for asked in channels):
        if not outputs[layer].requires_grad:
            where = f"the output of layer '{layer}'" if layer else "the network's output"
            raise UserError(
                f"{where} does not depend on the picture, so no picture can excite it; "
                + ("take another layer" if layer else "check its forward for detach() and no_grad()")
            )


def _of_picture(output: Tensor, picture: int, pictures: Tensor) -> Tensor:
    """A picture's part of an output; one in windows (N x windows, T, C) has several rows a picture."""
    rows = output.shape[0] // len(pictures)
    return output[picture * rows : (picture + 1) * rows]


def _projections(model: nn.Module) -> dict[str, Tensor]:
    """Weights that attention multiplies with itself, by the names that `spade layers` gives them."""
    return {name.removesuffix("_weight"): value for name, value in model.named_parameters() if name.endswith("_weight")}


def _response(output: Tensor, channel: int, layer: nn.Module | None = None) -> Tensor:
    """Mean of one channel, a scalar: lucent's `channel` objective without its minus sign."""
    return output.select(channel_axis(output.shape, layer), channel).mean()


def _own_response(objective: OwnObjective, output: Tensor, channel: int, layer: nn.Module | None = None) -> Tensor:
    """What the user's objective makes of an output, its channels brought to the second place."""
    return objective(output.movedim(channel_axis(output.shape, layer), 1), channel)


def _not_finite(responses: Tensor, gradients: Tensor) -> list[int]:
    """Which pictures' responses (N,) are not finite; where all are, which gradients (N, ...).

    A weight that is not finite spoils the gradients of all the pictures, by 0 x nan, but the response of its own only.
    """
    lost = (~torch.isfinite(responses)).nonzero().flatten().tolist()
    return lost or (~torch.isfinite(gradients).flatten(1).all(1)).nonzero().flatten().tolist()


@contextmanager
def observed(model: nn.Module, layers: Sequence[str | None]) -> Iterator[Callable[[Tensor], dict[str | None, Tensor]]]:
    """A function image -> outputs of these layers, the model in eval mode; afterwards modes and hooks are as before.

    Meanwhile no weight asks for a gradient: what does not depend on the image then asks for none either, and a network
    that keeps what it made of weights (LeViT) can still be copied.
    """
    outputs: dict[str | None, Tensor] = {}
    by_weight: dict[int, str] = {}
    attentions = {name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)}
    pictures = 1

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            # a copy: an in-place ReLU behind the layer would change what was kept
            outputs[name] = output.clone() if isinstance(output, Tensor) else output

        return hook

    def multiplied(weight: Tensor, output: Tensor) -> None:
        if (name := by_weight.get(id(weight))) is not None:
            if name.rpartition(".")[0] in attentions:  # which multiplies (T, N, C), or (T N, C)
                output = output.reshape(-1, pictures, output.shape[-1]).transpose(0, 1)  # (N, T, C)
            outputs.setdefault(name, output)  # of a module that is called, its hook has the last word

    def observe(image: Tensor) -> dict[str | None, Tensor]:
        nonlocal pictures
        pictures = len(image)
        outputs.clear()
        outputs[None] = model(image)
        return outputs

    modes = {module: module.training for module in model.modules()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles = []
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        modules, weights = dict(model.named_modules()), _projections(model)
        for name in {name for name in layers if name}:
            if name in modules:
                handles.append(modules[name].register_forward_hook(keep(name)))
            # a layer that is used without being called: its product is the output
            weight = weights.get(name, getattr(modules.get(name), "_parameters", {}).get("weight"))
            if weight is not None:
                by_weight[id(weight)] = name
        model.eval()
        with watch_calls(lambda weight, call: None, multiplied):
            yield observe
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _lucent_on(device: torch.device) -> Iterator[tuple[Callable, Tensor, Callable]]:
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
    was = spatial.device, transform.device
    spatial.device = transform.device = device
    try:
        colours = torch.tensor(color.color_correlation_normalized, dtype=torch.float32, device=device)
        yield spatial.fft_image, colours, transform.compose(transform.standard_transforms)
    finally:
        spatial.device, transform.device = was
