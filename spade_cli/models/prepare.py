"""A loaded network -> a classifier that everything later can rely on: the one door that every command goes through."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.models.building import one_line
from spade_cli.models.classifier import Classifier, Preprocessing
from spade_cli.models.outputs import AUTO, settle_output
from spade_cli.models.plain import bake_weights, check_layers_visible, take_grey, unwrap
from spade_cli.models.rehearsal import rehearsal_pictures, rehearse

COLOURS, GREY = 3, 1  # channels of a network's input


def prepare(
    classifier: Classifier, channels: int | None = None, output: str = AUTO, original: nn.Module | None = None
) -> Classifier:
    """Unwrap and rehearse the network, in place; settle its classes, its input's channels and its outputs' meaning.

    original: what the network is a copy of, if it is one.
    Raises UserError, in one line, for a network that cannot be explained.
    """
    asked = f"model={classifier.name}"
    network = unwrap(classifier.model)
    check_layers_visible(network, asked)
    network.eval()  # what it returns is the user's own: some return None
    bake_weights(network)
    with state_kept(network):
        notes = settle_input(network, classifier.preprocessing, channels, asked)
        classifier = replace(classifier, model=network)
        classes = count_classes(classifier)
        pictures = rehearsal_pictures(classifier.preprocessing, device_of(network))
        settled = settle_output(network, pictures, output, asked)
        doubts = rehearse(settled.network, pictures, asked, original)
    notes = (*doubts, *settled.notes, *notes)
    more = tuple(note for note in notes if note not in classifier.notes)
    return replace(
        classifier, model=settled.network, classes=classes, output=settled.output, notes=(*more, *classifier.notes)
    )


@contextmanager
def state_kept(network: nn.Module) -> Iterator[None]:
    """Some networks change buffers or modes at each call: after the `with` they are as before."""
    state = {name: value.detach().clone() for name, value in network.named_buffers()}
    yield
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.copy_(state.get(name, value))
    network.eval()


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
    raise UserError(
        f"{asked} does not take a picture of 3 x {own.size} x {own.size} ({reason}); set model.size, or, where it "
        "takes another input (more channels, two inputs, a dict), give a network whose forward(self, x) makes it of x: "
        "return self.net({'image': x})"
    )


@torch.no_grad()
def _error(network: nn.Module, picture: Tensor) -> str | None:
    """What the network says against this picture, (1, 3, H, W); None where it takes it."""
    try:
        network(picture.clone())
    except Exception as error:  # whatever a user's network raises, it is about this input
        return one_line(error)
    return None


@torch.no_grad()
def count_classes(classifier: Classifier) -> int:
    """The number of class scores. Raises UserError where the network returns anything but one row of them a picture."""
    output = classifier.model(classifier.grey())
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != 1 or not output.shape[1]:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"{classifier.name} returns {found} for one picture: a classifier returns one row of class scores"
        )
    return output.shape[1]
