"""A loaded network -> a classifier that every later step can rely on. Every command goes through here."""

from dataclasses import replace
from typing import NoReturn

import torch
from torch import Tensor, fx, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError, error_line
from spade_cli.models.classifier import AUTO, COLOURS, GREY, Classifier, Preprocessing
from spade_cli.models.entries import find_scores, pick_logits
from spade_cli.models.outputs import settle_output
from spade_cli.models.rehearsal import draw_rehearsal_pictures, rehearse
from spade_cli.networks.copies import bake_weights, unwrap
from spade_cli.networks.dequantise import is_dynamic_linear
from spade_cli.networks.modes_and_seeds import restore_buffers
from spade_cli.sizes import Size, write_size

QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")  # modules whose weights are no floats
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601), as Pillow makes grey pictures


def prepare_classifier(
    classifier: Classifier,
    channels: int | None = None,
    output: str = AUTO,
    logits: str | None = None,
    original: nn.Module | None = None,
) -> Classifier:
    """Unwrap and rehearse the network, in place; settle its classes, its input's channels and its outputs' meaning.

    logits: which entry of its answer holds the scores. original: the network that this one is a copy of, if it is one.
    Raises UserError, in one line, for a network that cannot be explained.
    """
    asked = f"model={classifier.name}"
    network = unwrap(classifier.model)
    check_layers_visible(network, asked)
    network.eval()  # its return value is not used: a user's own eval() may return None
    bake_weights(network)
    with restore_buffers(network):
        notes = settle_input(network, classifier.preprocessing, channels, asked)
        pictures = draw_rehearsal_pictures(classifier.preprocessing, device_of(network))
        found = find_scores(network, pictures) if logits is None else None
        if found is not None:
            logits, output = found.entry, output if output != AUTO else found.output
            notes = (*notes, found.note)
        if logits is not None:
            pick_logits(network, logits)
        classifier = replace(classifier, model=network)
        classes = count_classes(classifier)
        settled = settle_output(network, pictures, output, asked)
        trained = classifier.weights != "none"
        doubts = rehearse(settled.network, pictures, asked, original=original, trained=trained)
    notes = (*doubts, *settled.notes, *notes)
    more = tuple(note for note in notes if note not in classifier.notes)
    return replace(
        classifier, model=settled.network, classes=classes, output=settled.output, notes=(*more, *classifier.notes)
    )


def check_layers_visible(network: nn.Module, asked: str) -> None:
    """Raise UserError where layers are hidden or weights cannot be read; it names the part.

    Linear layers of dynamic quantisation pass: `dequantise_layers` makes them float.
    """
    dynamic = {id(part) for layer in network.modules() if is_dynamic_linear(layer) for part in layer.modules()}
    for name, module in network.named_modules():
        part = f"its part {name}" if name else "it"
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(f"{asked}: {part} is TorchScript, whose layers are hidden; give the Python network")
        if isinstance(module, fx.GraphModule) and _is_exported(module):
            raise UserError(f"{asked}: {part} is an exported graph, whose layers are hidden; give the Python network")
        quantised = type(module).__module__.startswith(QUANTISED) and id(module) not in dynamic
        torchao = any(type(value).__module__.startswith("torchao") for value in module._parameters.values())
        if quantised or torchao:
            how = " by torchao" if torchao else ""
            raise UserError(
                f"{asked}: {part} is quantized{how}, and pruning needs real numbers; give the network before that"
            )
    for name, value in network.state_dict().items():
        if isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise UserError(f"{asked}: {name} has no shape yet (a lazy layer); run the network once before")
        if not isinstance(value, Tensor):
            continue  # extra state that a module keeps there
        reasons = {
            "is on the meta device and holds no values": value.is_meta,
            "is quantized": value.is_quantized,
            "was made in torch.inference_mode()": value.is_inference(),
        }
        for reason in (reason for reason, holds in reasons.items() if holds):
            raise UserError(f"{asked}: {name} {reason}; give a network with ordinary weights")


def _is_exported(module: fx.GraphModule) -> bool:
    """Whether the graph calls torch's internal operators on bare weights, as torch.export leaves it."""
    return any("aten" in str(node.target) for node in module.graph.nodes if node.op == "call_function")


def settle_input(network: nn.Module, own: Preprocessing, channels: int | None, asked: str) -> tuple[str, ...]:
    """Make the network take (N, 3, height, width) in float32, in place; returns a note on what that changed, if any.

    A network that runs on float32 as it is keeps its own types, such as one whose forward says `.half()`; any other
    becomes float32. A network of one channel sees the luminance. Raises UserError where neither is enough.
    """
    if channels not in (None, COLOURS, GREY):
        raise UserError(
            f"model.channels={channels}: pictures have 3 channels, or 1 in grey; for another input give a network "
            "whose forward(self, x) makes it from a picture: return self.net(torch.cat([x, x[:, :1]], 1))"
        )
    picture = torch.zeros(1, COLOURS, *own.sides, device=device_of(network))
    error = _find_error(network, picture)
    if channels != GREY and error is None:
        return ()
    own_class, reasons = type(network), [error]
    for in_float32 in (False, True):
        if in_float32:
            network.float()
        for count in (COLOURS, GREY) if channels is None else (channels,):
            if count == GREY:
                take_grey(network)
            if (error := _find_error(network, picture)) is None:
                note = "it takes grey pictures: colours are mixed by luminance (0.299 red, 0.587 green, 0.114 blue)"
                return (note,) if count == GREY and channels is None else ()
            reasons.append(error)
            network.__class__ = own_class
    _refuse_input(next(reason for reason in reasons if reason is not None), own.size, channels, asked)


def _refuse_input(reason: str, size: Size, channels: int | None, asked: str) -> NoReturn:
    """Raise the UserError about a network that takes no images, with the way to make its input of an image x."""
    if channels == GREY:
        raise UserError(f"{asked} does not take grey pictures, as model.channels=1 says ({reason}); leave it out")
    what, example = "set model.size, or, where it takes another input, such as a dict,", "self.net({'image': x})"
    if "channels" in reason:
        what, example = "where it takes more channels,", "self.net(torch.cat([x, x[:, :1]], 1))"
    elif "missing" in reason and "argument" in reason:
        what, example = "where it takes two inputs,", "self.net(x, torch.zeros_like(x))"
    raise UserError(
        f"{asked} does not take a picture of 3 x {write_size(size)} ({reason}); {what} give a network whose "
        f"forward(self, x) makes its input of x: return {example}"
    )


@torch.no_grad()
def _find_error(network: nn.Module, picture: Tensor) -> str | None:
    """The error that the network raises for this picture, (1, 3, H, W); None where it takes it."""
    try:
        network(picture.clone())
    except Exception as error:  # whatever a user's network raises, it is about this input
        return error_line(error)
    return None


def take_grey(network: nn.Module) -> nn.Module:
    """Let a network of one channel take colour images, in place: it sees red, green and blue mixed by luminance.

    (N, 3, H, W) -> (N, 1, H, W) in front of its own forward; its layers keep their names.
    """
    own = type(network)
    if getattr(own, "takes_grey", False):  # it does already
        return network

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
        answer: Tensor = own.forward(self, LUMINANCE[0] * red + LUMINANCE[1] * green + LUMINANCE[2] * blue)
        return answer

    network.__class__ = type(
        own.__name__, (own,), {"forward": forward, "__module__": own.__module__, "takes_grey": True}
    )
    return network


@torch.no_grad()
def count_classes(classifier: Classifier) -> int:
    """The number of class scores. Raises UserError where the network returns anything but one row of them an image."""
    output = classifier.model(classifier.grey())
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != 1 or not output.shape[1]:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if not isinstance(output, Tensor):
            raise UserError(
                f"{classifier.name} returns {found} for one picture: say which entry of it has the class scores, such "
                "as model.logits=logits"
            )
        raise UserError(
            f"{classifier.name} returns {found} for one picture: a classifier returns one row of class scores, "
            "(1, classes)"
        )
    return output.shape[1]
