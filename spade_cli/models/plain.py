"""A network as a user has it -> a plain one: layers that can be seen, weights that can be pruned, and a copy of it."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from spade_cli.errors import UserError
from spade_cli.models.building import one_line

GREY = (0.299, 0.587, 0.114)  # luminance of red, green and blue (ITU-R BT.601), as Pillow makes grey pictures
WRAPPERS = ("torch._dynamo.eval_frame.OptimizedModule", "torch.nn.parallel.data_parallel.DataParallel")
NOT_COPIED = ("_parameters", "_buffers", "_modules")  # copied with their own modules, or always copyable


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside torch.compile's and DataParallel's wrappers; any other as it is."""
    while f"{type(network).__module__}.{type(network).__qualname__}" in WRAPPERS:
        network = network._orig_mod if "_orig_mod" in network._modules else network.module  # type: ignore[assignment]
    return network


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


def copy_network(network: nn.Module, asked: str) -> nn.Module:
    """A deep copy. Raises UserError that names what has no copy: a lock, an open file, a tensor made of parameters."""
    try:
        return copy.deepcopy(network, _weights_made_by_hooks(network))
    except Exception as error:  # whatever the user's own attributes raise
        place, why = _not_copyable(network) or ("it", one_line(error))
        raise UserError(
            f"{asked} cannot be copied, and a trace is a pruned copy: {place} ({why}); "
            "make it outside the network, or each time anew in its forward"
        ) from error


def _weights_made_by_hooks(network: nn.Module) -> dict[int, Any]:
    """Copies, by identity, of weights that torch's old hooks compute at each call: deepcopy takes leaves only."""
    found: dict[int, Any] = {}
    for module, name, _ in _weight_hooks(network):
        weight = vars(module).get(name)
        if isinstance(weight, Tensor) and not weight.is_leaf:
            found[id(weight)] = weight.detach().clone()
    return found


def _weight_hooks(network: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """(module, name of the weight, hook) of torch's old weight_norm, spectral_norm and pruning."""
    for module in network.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm | SpectralNorm):
                yield module, hook.name, hook
            elif isinstance(hook, prune.BasePruningMethod):
                yield module, hook._tensor_name, hook


def _not_copyable(network: nn.Module) -> tuple[str, str] | None:
    """The first attribute of a module that has no copy, and the reason."""
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if attribute in NOT_COPIED or isinstance(value, nn.Module):
                continue
            try:
                copy.deepcopy(value)
            except Exception as error:
                why = one_line(error)
                if isinstance(value, Tensor) and not value.is_leaf:
                    why = "a tensor made of parameters: the copy's would not follow its weights"
                return f"{name}.{attribute}".lstrip("."), f"{type(value).__name__}: {why}"
    return None


@torch.no_grad()
def bake_weights(network: nn.Module) -> None:
    """Turn weights that are computed at each call into plain parameters of the same values, in place.

    Covers weight_norm, spectral_norm, torch.nn.utils.prune, and every torch.nn.utils.parametrize.
    """
    for module, name, hook in list(_weight_hooks(network)):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, name)
        elif prune.is_pruned(module):  # one hook may hold several prunings
            prune.remove(module, name)
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            own = type(
                module
            )  # torch gives it to copies as well, and takes the weight out of it: those would lose theirs
            parts = {name: value for name, value in vars(own).items() if name not in ("__dict__", "__weakref__")}
            module.__class__ = type(own.__name__, own.__bases__, parts)
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
                value = module._buffers.pop(name, None)
                if value is not None:  # it was made of several tensors, of which none asked for a gradient
                    module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def take_grey(network: nn.Module) -> nn.Module:
    """Let a network of one channel take colour pictures, in place: it sees red, green and blue mixed by luminance.

    The network's own layers keep their names: only the way in changes. (N, 3, H, W) -> (N, 1, H, W).
    """
    own = type(network)
    if getattr(own, "takes_grey", False):  # it was let before
        return network

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
        answer: Tensor = own.forward(self, GREY[0] * red + GREY[1] * green + GREY[2] * blue)
        return answer

    network.__class__ = type(
        own.__name__, (own,), {"forward": forward, "__module__": own.__module__, "takes_grey": True}
    )
    return network
