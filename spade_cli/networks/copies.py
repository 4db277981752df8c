"""A network -> a copy that runs on its own layers, with plain weights; the original stays as it was."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from spade_cli.errors import UserError, error_line

WRAPPERS = ("torch._dynamo.eval_frame.OptimizedModule", "torch.nn.parallel.data_parallel.DataParallel")
NOT_NAMED = ("_parameters", "_buffers", "_modules")  # can always be copied, or are named with their own modules
OF_CLASSES = ("__dict__", "__weakref__")  # descriptors that each class makes for itself


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside torch.compile's and DataParallel's wrappers; any other as it is."""
    while f"{type(network).__module__}.{type(network).__qualname__}" in WRAPPERS:
        network = network._orig_mod if "_orig_mod" in network._modules else network.module  # type: ignore[assignment]
    return network


def copy_network(network: nn.Module, asked: str = "the network", shared: Iterable[Tensor] = ()) -> nn.Module:
    """A deep copy in the same modes. Raises UserError that names what cannot be copied: a lock, an open file.

    shared: tensors of the network that the copy has as well, instead of copies of them.

    torch does not copy a tensor that is part of a graph, such as the weight that weight_norm keeps, or features that a
    network remembers: the copy gets their values.
    """
    memo: dict[int, Any] = {id(one): one.detach().clone() for one in _tensors_in(network) if not one.is_leaf}
    memo |= {id(one): one for one in shared}
    try:
        with torch.no_grad():  # with gradients, TorchScript's weights would become results of a copy, and not leaves
            return copy.deepcopy(network, memo)
    except Exception as error:  # whatever the user's own attributes raise
        place, why = _find_obstacle(network) or ("it", error_line(error))
        raise UserError(
            f"{asked} cannot be copied, and a trace is a pruned copy: {place} ({why}); "
            "make it outside the network, or each time anew in its forward"
        ) from error


def copy_for_eval(network: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A copy in eval mode, without gradients; `shared` as in `copy_network`."""
    copied = copy_network(network, shared=shared)
    copied.eval()  # its return value is not used: a user's own eval() may return None
    for parameter in copied.parameters():
        parameter.grad = None
    return copied


def _tensors_in(network: nn.Module) -> Iterator[Tensor]:
    """The tensors that a network's modules hold, also in lists and dictionaries."""
    for module in network.modules():
        yield from (leaf for leaf in pytree.tree_leaves(vars(module)) if isinstance(leaf, Tensor))


def _find_obstacle(network: nn.Module) -> tuple[str, str] | None:
    """The first attribute of a module that cannot be copied, and the reason."""
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if attribute in NOT_NAMED or isinstance(value, nn.Module):
                continue
            try:
                copy.deepcopy(value)
            except Exception as error:
                return f"{name}.{attribute}".lstrip("."), f"{type(value).__name__}: {error_line(error)}"
    return None


@torch.no_grad()
def bake_weights(network: nn.Module) -> None:
    """Turn weights that are computed at each call into plain parameters with the same values, in place.

    Covers weight_norm, spectral_norm, torch.nn.utils.prune, and every torch.nn.utils.parametrize.
    """
    for module, name, hook in list(_find_weight_hooks(network)):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, name)
        elif prune.is_pruned(module):  # one hook may hold several prunings
            prune.remove(module, name)
    for module in list(network.modules()):
        if not parametrize.is_parametrized(module):
            continue
        # A copy shares its class with the original, and torch removes the weight's property from it: make a new class.
        own = type(module)
        parts = {name: value for name, value in vars(own).items() if name not in OF_CLASSES}
        module.__class__ = type(own.__name__, own.__bases__, parts)
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
            value = module._buffers.pop(name, None)
            if value is not None:  # computed from several tensors, none with a gradient
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _find_weight_hooks(network: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """(module, name of the weight, hook) of torch's old weight_norm, spectral_norm and pruning."""
    for module in network.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm | SpectralNorm):
                yield module, hook.name, hook
            elif isinstance(hook, prune.BasePruningMethod):
                yield module, hook._tensor_name, hook


@contextmanager
def check_own_weights(*originals: nn.Module, asked: str = "the network") -> Iterator[None]:
    """Run a copy inside the `with`. Raises UserError where it reads a weight of an original.

    A forward that was replaced on the instance, or a hook, may hold the original's layers: functions are not copied.
    """
    known = {
        id(value): name
        for original in originals
        for name, value in (*original.named_parameters(), *original.named_buffers())
    }
    with _ReadWeights(known) as reading:
        yield
    if reading.found:
        refuse_shared_layers(originals[-1], known[reading.found], asked)


class _ReadWeights(TorchFunctionMode):
    """Notes the id of the first of these tensors that is passed to a function of torch."""

    def __init__(self, known: dict[int, str]) -> None:
        super().__init__()
        self.known, self.found = known, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = (id(leaf) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        self.found = self.found or next((leaf for leaf in leaves if leaf in self.known), 0)
        return func(*args, **(kwargs or {}))


def refuse_shared_layers(network: nn.Module, weight: str, asked: str) -> NoReturn:
    """Raise the UserError about a copy that runs the original's layers. weight: one that it read, or ""."""
    cause = _find_cause(network) or "a function or a hook that keeps the original's layers, or a global variable"
    which = f" (seen at {weight})" if weight else ""
    raise UserError(
        f"{asked} cannot be pruned: a copy of it runs the original's layers{which}, because of {cause}; put the change "
        "into the class's own forward"
    )


def _find_cause(network: nn.Module) -> str | None:
    """The first forward that was replaced on a module, or the first hook that holds layers."""
    for name, module in network.named_modules():
        if "forward" in vars(module):
            return f"{name}.forward".lstrip(".") + ", which was replaced on the instance"
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):
            held = [cell.cell_contents for cell in getattr(hook, "__closure__", None) or ()]
            if any(isinstance(one, nn.Module | Tensor) for one in (*held, getattr(hook, "__self__", None))):
                return f"a hook on {name or 'the network'} that holds layers"
    return None
