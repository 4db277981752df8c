"""Network -> a copy of it that captum's methods are right on, made by one torch.fx pass."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from spade_cli.devices import device_of
from spade_cli.errors import UserError
from spade_cli.interpretation.rewrite.feature_maps import mark_feature_map
from spade_cli.interpretation.rewrite.free_sources import sources_forgotten
from spade_cli.interpretation.rewrite.rewrite_graph import one_module_per_call, tensors_first
from spade_cli.interpretation.rewrite.undo_writes import (
    CannotRewrite,
    checked_run,
    traced,
    without_constants,
    without_writes,
)
from spade_cli.networks.borrow import ask_network, seed_generators
from spade_cli.networks.calls import watch_calls
from spade_cli.networks.copies import bake_weights, check_own_weights, copy_network, unwrap

# The pass changes no arithmetic: the copy differs by rounding at most, where a GPU chooses another algorithm.
AGREEMENT = 1e-5  # of the largest output


@dataclass(frozen=True)
class Explainable:
    """A network ready to be explained; `model` is our own copy, the user's network is never touched.

    model: a copy in eval mode, without the user's hooks. Where `reason` is None every ReLU is a module of its own.
    reason: why the network could not be rewritten; then `model` is a plain copy, and methods that hook modules refuse.
    classes: outputs of the network, the range of a target.
    feature_map: name in `model` of the last feature map (1, C, h, w) for Grad-CAM; None where there is none.
    original: the user's network itself, to be copied for functions of the user's; None: `model` stands for it.
    """

    model: nn.Module
    reason: str | None
    classes: int
    feature_map: str | None
    original: nn.Module | None = None


@sources_forgotten()
def explainable(model: nn.Module, image: Tensor) -> Explainable:
    """Copy a network and make the copy safe for captum; `image` (1, 3, H, W) is what the copy is tried on.

    The copy is for pictures of the image's size: where the network asks for sizes, it follows the answers.

    Every ReLU and ReLU6 call, functional and in-place ones included, becomes a module of its own, every module without
    parameters is called once, the sum of two tensors becomes an `Add`, and nothing is done in place.
    Outputs stay the same, which is checked on the image (alone, and in a batch of two because DeepLift doubles the
    batch); where they do not, or where the network cannot be traced or rewritten, `reason` says so.

    A network that draws random numbers is asked with the same ones.

    Errors: UserError where the network's output is not (1, classes), or where no copy of it can be made.
    """
    return replace(_explainable(unwrap(model), image), original=unwrap(model))


def _explainable(model: nn.Module, image: Tensor) -> Explainable:
    plain = copy_of(model)
    hooked = _strip_hooks(plain)
    image = image.to(device_of(plain))
    with torch.no_grad(), seed_generators(0, image.device):
        with check_own_weights(model):
            output = ask_network(plain, image)
        if not (isinstance(output, Tensor) and output.dim() == 2 and output.shape[0] == 1):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"explaining needs a classifier with outputs (1, classes); this network gave {found}")
        classes = output.shape[1]
        if hooked and not _agree(ask_network(kept := copy_of(model), image), output):
            with check_own_weights(model):  # the hooks are part of what the network computes: they have to be its own
                ask_network(kept, image)
            return Explainable(kept, "forward hooks on the network change its output", classes, None)
        if scripted := [name for name, part in plain.named_modules() if isinstance(part, torch.jit.ScriptModule)]:
            what = f"its part '{scripted[0]}' is TorchScript" if scripted[0] else "it is TorchScript"
            return Explainable(plain, f"{what}, which shows none of its operations", classes, None)
        try:
            copied = _with_defaults(copy.deepcopy(plain))
            graph_module = traced(copied, _used_whole(copied, image), image)
        except CannotRewrite as error:
            return Explainable(plain, str(error), classes, None)
        except Exception as error:  # tracing runs the network's own Python on stand-ins; it may fail in any way
            return Explainable(plain, f"torch.fx cannot trace it ({one_line(error)})", classes, None)
        try:
            safe, feature_map = _rewritten(graph_module, image)
            pair = torch.cat([image, image.flip(-1)])  # (2, 3, H, W)
            with seed_generators(0, image.device):
                same = _agree(checked_run(safe, image), output)
            same = same and _agree(ask_network(safe, pair), ask_network(plain, pair))
        except CannotRewrite as error:
            return Explainable(plain, str(error), classes, None)
        except Exception as error:  # a valid network may still be one that a graph, or a batch of two, does not suit
            return Explainable(plain, f"it cannot be rewritten ({one_line(error)})", classes, None)
        if not same:
            return Explainable(plain, _why_different(plain, image, pair, output), classes, None)
    return Explainable(safe, None, classes, feature_map)


def copy_of(model: nn.Module) -> nn.Module:
    """A copy in eval mode, its weights plain; they ask for no gradient, since attributions need the image's only."""
    copied = copy_network(model)
    copied.eval()  # its own eval() may return nothing
    bake_weights(copied)
    for parameter in copied.parameters():  # TorchScript's has no requires_grad_() of its own
        parameter.requires_grad_(False)
    return copied


def _strip_hooks(copied: nn.Module) -> bool:
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


def _why_different(plain: nn.Module, image: Tensor, pair: Tensor, output: Tensor) -> str:
    """Why the rewritten copy answers something else than the network."""
    if not _agree(ask_network(plain, image), output):
        return "its answer to the same picture changes from call to call, even with the same random numbers"
    if not _agree(ask_network(plain, pair)[:1], output):
        return "its answer to a picture depends on the other pictures of the batch"
    return "its outputs change when it is rewritten"


def _used_whole(network: nn.Module, image: Tensor) -> set[int]:
    """The ids of the weights that a run of the network multiplies with as they are."""
    used: set[int] = set()
    with watch_calls(lambda weight, call: used.add(id(weight))):
        network(image.clone())
    return used


def _with_defaults(network: nn.Module) -> nn.Module:
    """A network that takes the image alone, so that torch.fx knows its other arguments' defaults (flags, `*args`)."""

    def forward(self: nn.Module, image: Tensor) -> Any:
        return own(image) if own is not None and self is network else kind.forward(self, image)

    kind, own = type(network), vars(network).pop("forward", None)  # own: put on the instance, which torch.fx ignores
    network.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return network


def _rewritten(safe: fx.GraphModule, image: Tensor) -> tuple[fx.GraphModule, str | None]:
    """A traced network in the form that captum needs, and its feature map's name."""
    without_writes(safe, image)
    without_constants(safe, image)
    tensors_first(safe.graph)
    one_module_per_call(safe)
    feature_map = mark_feature_map(safe, image)
    safe.graph.lint()
    safe.recompile()
    safe.training = False  # alone: a layer that the network keeps in training mode stays in it
    return safe, feature_map


def _agree(output: Any, expected: Tensor) -> bool:
    """Whether two outputs are the same up to rounding; two that are not finite in the same places agree as well."""
    if not isinstance(output, Tensor) or output.shape != expected.shape:
        return False
    largest = expected.nan_to_num(0, 0, 0).abs().max().item()
    return torch.allclose(output, expected, rtol=0, atol=AGREEMENT * largest, equal_nan=True)


def one_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
