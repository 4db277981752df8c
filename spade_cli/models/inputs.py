"""What a network takes: (N, 3, size, size) in float32, or grey pictures, in types of its own."""

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError, error_line
from spade_cli.models.classifier import Preprocessing

COLOURS, GREY = 3, 1  # channels of a network's input
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601), as Pillow makes grey pictures


def settle_input(network: nn.Module, own: Preprocessing, channels: int | None, asked: str) -> tuple[str, ...]:
    """Make the network take (N, 3, size, size) in float32, in place; returns what that changed, in words.

    A network keeps its types where it runs with them, as one whose forward says `.half()` does; else it becomes
    float32. A network of one channel sees the luminance. Raises UserError where nothing helps.
    """
    if channels not in (None, COLOURS, GREY):
        raise UserError(
            f"model.channels={channels}: pictures have 3 channels, or 1 in grey; for another input give a network "
            "whose forward(self, x) makes it from a picture: return self.net(torch.cat([x, x[:, :1]], 1))"
        )
    picture = torch.zeros(1, COLOURS, own.size, own.size, device=device_of(network))
    found = _error(network, picture)
    if channels != GREY and found is None:
        return ()
    own_class, reasons = type(network), [found]
    for in_float32 in (False, True):
        if in_float32:
            network.float()
        for count in (COLOURS, GREY) if channels is None else (channels,):
            if count == GREY:
                take_grey(network)
            if (error := _error(network, picture)) is None:
                note = "it takes grey pictures: colours are mixed by luminance (0.299 red, 0.587 green, 0.114 blue)"
                return (note,) if count == GREY and channels is None else ()
            reasons.append(error)
            network.__class__ = own_class
    reason = next(one for one in reasons if one is not None)
    if channels == GREY:
        raise UserError(f"{asked} does not take grey pictures, as model.channels=1 says ({reason}); leave it out")
    what, example = _other_input(reason)
    raise UserError(
        f"{asked} does not take a picture of 3 x {own.size} x {own.size} ({reason}); {what} give a network whose "
        f"forward(self, x) makes its input of x: return {example}"
    )


def _other_input(reason: str) -> tuple[str, str]:
    """What a network may want that a picture is not, in words, and how its input is made of a picture x."""
    if "channels" in reason:
        return "where it takes more channels,", "self.net(torch.cat([x, x[:, :1]], 1))"
    if "missing" in reason and "argument" in reason:
        return "where it takes two inputs,", "self.net(x, torch.zeros_like(x))"
    return "set model.size, or, where it takes another input, such as a dict,", "self.net({'image': x})"


@torch.no_grad()
def _error(network: nn.Module, picture: Tensor) -> str | None:
    """What the network says against this picture, (1, 3, H, W); None where it takes it."""
    try:
        network(picture.clone())
    except Exception as error:  # whatever a user's network raises, it is about this input
        return error_line(error)
    return None


def take_grey(network: nn.Module) -> nn.Module:
    """Let a network of one channel take colour pictures, in place: it sees red, green and blue mixed by luminance.

    The network's own layers keep their names: only the way in changes. (N, 3, H, W) -> (N, 1, H, W).
    """
    own = type(network)
    if getattr(own, "takes_grey", False):  # it was let before
        return network

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
        answer: Tensor = own.forward(self, LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue)
        return answer

    network.__class__ = type(
        own.__name__, (own,), {"forward": forward, "__module__": own.__module__, "takes_grey": True}
    )
    return network
