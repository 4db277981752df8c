"""A loaded network -> a classifier that everything later can rely on: the one door that every command goes through."""

from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.models.classifier import Classifier
from spade_cli.models.inputs import settle_input
from spade_cli.models.outputs import AUTO, settle_output
from spade_cli.models.rehearsal import rehearsal_pictures, rehearse
from spade_cli.networks.borrow import restore_buffers
from spade_cli.networks.copies import bake_weights, unwrap


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
    with restore_buffers(network):
        notes = settle_input(network, classifier.preprocessing, channels, asked)
        classifier = replace(classifier, model=network)
        classes = count_classes(classifier)
        pictures = rehearsal_pictures(classifier.preprocessing, device_of(network))
        settled = settle_output(network, pictures, output, asked)
        trained = classifier.weights != "none"
        doubts = rehearse(settled.network, pictures, asked, original=original, trained=trained)
    notes = (*doubts, *settled.notes, *notes)
    more = tuple(note for note in notes if note not in classifier.notes)
    return replace(
        classifier, model=settled.network, classes=classes, output=settled.output, notes=(*more, *classifier.notes)
    )


def check_layers_visible(network: nn.Module, asked: str) -> None:
    """Raises UserError where layers cannot be seen, or weights cannot be read; names the part."""
    for name, module in network.named_modules():
        part = f"its part {name}" if name else "it"
        if isinstance(module, torch.jit.ScriptModule):
            raise UserError(f"{asked}: {part} is TorchScript, whose layers are hidden; give the Python network")
        if isinstance(module, fx.GraphModule) and _is_exported(module):
            raise UserError(f"{asked}: {part} is an exported graph, whose layers are hidden; give the Python network")
        if type(module).__module__.startswith("torch.ao.nn.quantized"):
            raise UserError(
                f"{asked}: {part} is quantized, and pruning needs real numbers; give the network before that"
            )
    for name, value in network.state_dict().items():
        if isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise UserError(f"{asked}: {name} has no shape yet (a lazy layer); run the network once before")
        if not isinstance(value, Tensor):
            continue  # state of the user's own
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


@torch.no_grad()
def count_classes(classifier: Classifier) -> int:
    """The number of class scores. Raises UserError where the network returns anything but one row of them a picture."""
    output = classifier.model(classifier.grey())
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != 1 or not output.shape[1]:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise UserError(
            f"{classifier.name} returns {found} for one picture: a classifier returns one row of class scores, "
            "(1, classes)"
        )
    return output.shape[1]
