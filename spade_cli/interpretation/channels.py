"""The channels of a network's layers: where an output has them, which there are, and what they respond."""

import difflib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.networks.calls import watch_calls
from spade_cli.networks.modes_and_seeds import eval_mode

CHANNELS_SECOND = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)
TORCH_LAYERS: tuple[type[nn.Module], ...] = (*CHANNELS_SECOND, nn.Linear, nn.LayerNorm)
DIRECTION = re.compile(r"(.+):(\d+)((?:[+-](?:\d+(?:\.\d+)?\*)?\d+)*)", re.ASCII)  # layer4.2:17+0.5*3-9
TERM = re.compile(r"([+-])(?:([\d.]+)\*)?(\d+)")
CLOSE_NAMES = 3  # as many as fit on the error's line
SQUARE = (1, 1)  # height and width of a square picture, of which only the proportions matter


@dataclass(frozen=True)
class Channel:
    """A channel of a layer, or a direction: the channel plus others times their weights.

    layer: dotted name as in named_modules, None for the network's output. others: (weight, channel) of each.
    """

    layer: str | None
    channel: int
    others: tuple[tuple[float, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.layer or 'output'}:{self.in_layer}"

    @property
    def in_layer(self) -> str:
        """Its name within the layer: 17, or 17+0.5*3-9."""
        terms = []
        for weight, other in self.others:
            factor = "" if abs(weight) == 1 else f"{abs(weight)}*".replace(".0*", "*")
            terms.append(f"{'-' if weight < 0 else '+'}{factor}{other}")
        return f"{self.channel}" + "".join(terms)

    def read(self, output: Tensor, layer: nn.Module | None = None, sides: Sequence[int] = SQUARE) -> Tensor:
        """Its values in the layer's output: (N, C, H, W) -> (N, H, W), wherever the channels' axis is.

        sides: height and width of the picture, of which only the proportions matter.
        """
        axis = channel_axis(output.shape, layer, sides)
        values = output.select(axis, self.channel)
        for weight, other in self.others:
            values = values + weight * output.select(axis, other)
        return values


def parse_channel(text: str) -> Channel | None:
    """`layer4.2:17` as a channel, `layer4.2:17+0.5*3-9` as a direction; None for anything else."""
    found = DIRECTION.fullmatch(text)
    if found is None:
        return None
    others = [(float(f"{sign}{weight or 1}"), int(channel)) for sign, weight, channel in TERM.findall(found[3])]
    return Channel(found[1], int(found[2]), tuple(others))


def channel_axis(shape: Sequence[int], layer: nn.Module | None = None, sides: Sequence[int] = SQUARE) -> int:
    """The axis of the channels in an output of this shape, its batch included, for a picture of sides (H, W).

    Torch's own layers say it: linear ones and layer norms over one axis have them last, convolutions and batch norms
    second. Of others, the second of vectors (N, C) and maps (N, C, H, W), the last of tokens (N, T, C) and of maps
    (N, H, W, C): a map has the picture's proportions, so the two equal axes of a square picture's are its rows and
    columns (Swin, ConvNeXt). Where three are equal, and where none are, it is taken for (N, C, H, W).
    """
    # a subclass with a forward of its own may move the axes
    kind = next((one for one in TORCH_LAYERS if isinstance(layer, one) and type(layer).forward is one.forward), None)
    if kind in CHANNELS_SECOND:
        return 1
    if kind is nn.Linear or (isinstance(layer, nn.LayerNorm) and kind and len(layer.normalized_shape) == 1):
        return len(shape) - 1
    if len(shape) == 4:
        return 3 if _has_channels_last(shape, sides) else 1
    return 2 if len(shape) == 3 else 1


def _has_channels_last(shape: Sequence[int], sides: Sequence[int]) -> bool:
    """Whether the second and third axis of a map have the picture's proportions, rather than the third and fourth."""
    if sides[0] == sides[1]:
        return shape[1] == shape[2] != shape[3]
    first, second = (
        abs(math.log(max(rows, 1) * sides[1] / (max(columns, 1) * sides[0])))  # 0 where they are the picture's
        for rows, columns in ((shape[1], shape[2]), (shape[2], shape[3]))
    )
    return first < second  # sides of maps are rounded, so the nearer one; where both fit alike, the usual order


def check_channels(model: nn.Module, image: Tensor, channels: Sequence[Channel]) -> None:
    """UserError where a layer or a channel does not exist, or does not depend on the image.

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
    with torch.enable_grad(), observe_layers(model, [asked.layer for asked in channels]) as observe:
        image = image.detach().clone().to(device_of(model)).requires_grad_()
        outputs = observe(image.clone())  # a clone: the first layer may write into it
    for asked in channels:
        _check_channel(asked, outputs, modules, image.shape[-2:])
    for layer in dict.fromkeys(asked.layer for asked in channels):
        if not outputs[layer].requires_grad:
            where = f"the output of layer '{layer}'" if layer else "the network's output"
            raise UserError(
                f"{where} does not depend on the picture, so no picture can excite it; "
                + ("take another layer" if layer else "check its forward for detach() and no_grad()")
            )


def _check_channel(
    asked: Channel, outputs: dict[str | None, Tensor], modules: dict[str, nn.Module], sides: Sequence[int]
) -> None:
    """UserError where a layer's output has no such channel."""
    where = f"layer '{asked.layer}'" if asked.layer else "the network's output"
    if asked.layer not in outputs:
        raise UserError(f"{where} was not run as a module, so it has no channels; take another (`spade layers`)")
    output = outputs[asked.layer]
    if not isinstance(output, Tensor) or output.dim() not in (2, 3, 4):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{where} gives {found}; a channel needs (N, C, H, W), (N, C) or (N, T, C); take another layer")
    count = output.shape[channel_axis(output.shape, modules.get(asked.layer or ""), sides)]
    for channel in (asked.channel, *(other for _, other in asked.others)):
        if not 0 <= channel < count:
            raise UserError(f"channel {channel} of {where} asked for; it has channels 0 to {count - 1}")


@contextmanager
def observe_layers(
    model: nn.Module, layers: Sequence[str | None]
) -> Iterator[Callable[[Tensor], dict[str | None, Tensor]]]:
    """A function images -> outputs of these layers, the model in eval mode; afterwards modes and hooks are as before.

    Meanwhile no weight asks for a gradient: what does not depend on the images then asks for none either, and a network
    that keeps what it computed from weights (LeViT) can still be copied.
    """
    outputs: dict[str | None, Tensor] = {}
    name_of_weight: dict[int, str] = {}
    attentions = {name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)}
    batch = 1

    def make_hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def keep_output(module: nn.Module, inputs: object, output: Tensor) -> None:
            # a copy: an in-place ReLU behind the layer would change what was kept
            outputs[name] = output.clone() if isinstance(output, Tensor) else output

        return keep_output

    def keep_product(weight: Tensor, output: Tensor) -> None:
        if (name := name_of_weight.get(id(weight))) is not None:
            if name.rpartition(".")[0] in attentions:  # which multiplies (T, N, C), or (T N, C)
                output = output.reshape(-1, batch, output.shape[-1]).transpose(0, 1)  # (N, T, C)
            outputs.setdefault(name, output)  # of a module that is called, its hook has the last word

    def observe(images: Tensor) -> dict[str | None, Tensor]:
        nonlocal batch
        batch = len(images)
        outputs.clear()
        outputs[None] = model(images)
        return outputs

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handles = []
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        modules, projections = dict(model.named_modules()), _projections(model)
        for name in {name for name in layers if name}:
            if name in modules:
                handles.append(modules[name].register_forward_hook(make_hook(name)))
            # a layer that is used without being called: its product is the output
            weight = projections.get(name, getattr(modules.get(name), "_parameters", {}).get("weight"))
            if weight is not None:
                name_of_weight[id(weight)] = name
        with eval_mode(model), watch_calls(lambda weight, call: None, keep_product):
            yield observe
    finally:
        for handle in handles:
            handle.remove()
        for parameter in trained:
            parameter.requires_grad_(True)


def _projections(model: nn.Module) -> dict[str, Tensor]:
    """Weights that attention multiplies with itself, by the names that `spade layers` gives them."""
    return {name.removesuffix("_weight"): value for name, value in model.named_parameters() if name.endswith("_weight")}
