"""A network -> a copy of it that can be explained: in eval mode, with plain weights, without the user's hooks."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from spade_cli.errors import UserError


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode whose parameters ask for no gradient: attributions need the image's only.

    Weights that a hook or a parametrization computes at each call (weight_norm, spectral_norm, prune) are plain
    parameters of the copy. What torch.compile returned is unwrapped. UserError where no copy can be made.
    """
    model = getattr(model, "_orig_mod", model)
    # torch copies no tensor that is still part of a graph, such as the weight that weight_norm keeps
    memo: dict[int, Any] = {id(one): one.detach().clone() for one in _tensors_in(model) if not one.is_leaf}
    try:
        with torch.no_grad():  # or TorchScript's weights would be results of a copy, and no leaves
            copied = copy.deepcopy(model, memo)
    except Exception as error:  # of an open file, a lock, or whatever else the network holds
        raise UserError(
            f"the network cannot be copied ({type(error).__name__}: {error}); keep out of it what copy.deepcopy refuses"
        ) from error
    copied.eval()  # its own eval() may return nothing
    _fix_weights(copied)
    for parameter in copied.parameters():  # TorchScript's has no requires_grad_() of its own
        parameter.requires_grad_(False)
    return copied


def _tensors_in(model: nn.Module) -> Iterator[Tensor]:
    """The tensors that a network's modules hold, also in lists and dictionaries."""
    for module in model.modules():
        yield from (leaf for leaf in pytree.tree_leaves(vars(module)) if isinstance(leaf, Tensor))


@torch.no_grad()
def _fix_weights(copied: nn.Module) -> None:
    """Make each weight that is computed at every call the parameter that it is in eval mode."""
    for module in copied.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
                hook(module, None)  # computes it
                del module._forward_pre_hooks[key]
                name = hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name
                weight = getattr(module, name).detach().clone()
                delattr(module, name)
                module.register_parameter(name, nn.Parameter(weight))


def strip_hooks(copied: nn.Module) -> bool:
    """Take the user's hooks off a copy, where they would fire on our passes; says whether one could change outputs."""
    found = False
    for module in copied.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            # a lazy layer's own hook gives it its weights
            strange = [key for key, hook in hooks.items() if not getattr(hook, "__module__", "").startswith("torch.nn")]
            found = found or bool(strange)
            for key in strange:
                del hooks[key]
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return found


@contextmanager
def only_own_weights(model: nn.Module) -> Iterator[None]:
    """Inside the `with`, a copy of the model runs. UserError where the copy reads a weight of the model itself.

    A forward that was replaced on the instance, or a hook, may hold the model's layers: torch copies no function.
    """
    model = getattr(model, "_orig_mod", model)
    theirs = {id(value): name for name, value in (*model.named_parameters(), *model.named_buffers())}
    with _Reading(theirs) as reading:
        yield
    if reading.found:
        raise UserError(
            f"a copy of this network would run the network's own {theirs[reading.found]}: a function put in place of a "
            "forward, or a hook, holds its layers; write that forward in a class instead"
        )


class _Reading(TorchFunctionMode):
    """Notes the first of these tensors, by id, that a function of torch is given."""

    def __init__(self, asked: dict[int, str]) -> None:
        super().__init__()
        self.asked, self.found = asked, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = (id(leaf) for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        self.found = self.found or next((leaf for leaf in leaves if leaf in self.asked), 0)
        return func(*args, **(kwargs or {}))
