"""Network -> a copy of it on which captum's methods are right, made by one torch.fx pass."""

import copy
import linecache
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import graph_module as fx_graph_module

from spade_cli.devices import device_of
from spade_cli.errors import UserError, error_line
from spade_cli.interpretation.rewrite.feature_maps import mark_feature_map
from spade_cli.interpretation.rewrite.rewrite_graph import give_calls_modules, put_tensors_first
from spade_cli.interpretation.rewrite.undo_writes import (
    CannotRewrite,
    fold_constants,
    remove_writes,
    run_without_writes,
    trace_graph,
)
from spade_cli.networks.calls import watch_calls
from spade_cli.networks.copies import bake_weights, check_own_weights, copy_network, unwrap
from spade_cli.networks.modes_and_seeds import ask_network, seed_generators
from spade_cli.networks.question import Question

# The pass changes no arithmetic: the copy differs by rounding at most, where a GPU chooses another algorithm.
AGREEMENT = 1e-5  # of the largest output
# torch.fx keeps the source of every graph it compiles until the process ends, for tracebacks alone: a network explained
# in a batch of a million images would leave gigabytes. Private to torch: where it is not there, nothing is freed.
SOURCES: dict[str, str] = getattr(getattr(fx_graph_module, "_loader", None), "eval_cache", {})


@contextmanager
def free_sources() -> Iterator[None]:
    """Free the source code of the graphs compiled inside; they still run, without lines in tracebacks."""
    before = set(SOURCES)
    try:
        yield
    finally:
        for name in SOURCES.keys() - before:
            SOURCES.pop(name, None)  # another thread may have been there
            linecache.cache.pop(name, None)


@dataclass(frozen=True)
class Explainable:
    """A copy of a network, ready to be explained; the user's network is never touched.

    model: the copy, in eval mode, without the user's hooks. Where `reason` is None every ReLU is a module of its own.
    reason: why the network could not be rewritten. Then `model` is a plain copy, and methods that hook modules refuse.
    classes: how many outputs the network has; a target is one of them.
    feature_map: name in `model` of the last feature map (1, C, h, w), for Grad-CAM; None where there is none.
    original: the user's network, to be copied for the user's own methods; None: `model` is copied.
    question: what the last output answers, where it was appended to the network's own (`ask_question`).
    """

    model: nn.Module
    reason: str | None
    classes: int
    feature_map: str | None
    original: nn.Module | None = None
    question: Question | None = None


@free_sources()
def explainable(model: nn.Module, image: Tensor) -> Explainable:
    """Copy a network and rewrite the copy for captum; `image` (1, 3, H, W) is what the copy is tried on.

    Every ReLU and ReLU6 call, functional and in-place ones included, becomes a module of its own. Every module without
    parameters is called once, the sum of two tensors becomes an `Add`, and nothing is done in place. The copy takes
    images of this size only: an `if` about sizes is decided once, as the image decides it.

    The copy has to give the same outputs, for the image alone and in a batch of two (DeepLift doubles the batch). Where
    it does not, or where the network cannot be traced or rewritten, `reason` says why. A network that draws random
    numbers draws the same ones each time.

    Errors: UserError where the network's output is not (1, classes), or where the network cannot be copied.
    """
    return replace(_copy_and_rewrite(unwrap(model), image), original=unwrap(model))


def _copy_and_rewrite(model: nn.Module, image: Tensor) -> Explainable:
    plain = copy_for_attribution(model)
    has_hooks = _strip_hooks(plain)
    image = image.to(device_of(plain))
    with torch.no_grad(), seed_generators(0, image.device):
        with check_own_weights(model):
            output = ask_network(plain, image)
        if not (isinstance(output, Tensor) and output.dim() == 2 and output.shape[0] == 1):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"explaining needs a classifier with outputs (1, classes); this network gave {found}")
        classes = output.shape[1]
        if has_hooks and not _same_outputs(ask_network(with_hooks := copy_for_attribution(model), image), output):
            with check_own_weights(model):  # the hooks are part of what the network computes: they have to be its own
                ask_network(with_hooks, image)
            return Explainable(with_hooks, "forward hooks on the network change its output", classes, None)
        if scripted := [name for name, part in plain.named_modules() if isinstance(part, torch.jit.ScriptModule)]:
            what = f"its part '{scripted[0]}' is TorchScript" if scripted[0] else "it is TorchScript"
            return Explainable(plain, f"{what}, which shows none of its operations", classes, None)
        try:
            copied = _bind_defaults(copy.deepcopy(plain))
            graph_module = trace_graph(copied, _find_plain_weights(copied, image), image)
        except CannotRewrite as error:
            return Explainable(plain, str(error), classes, None)
        except Exception as error:  # tracing runs the network's own Python on proxies: anything may be raised
            return Explainable(plain, f"torch.fx cannot trace it ({error_line(error)})", classes, None)
        try:
            safe, feature_map = _rewrite(graph_module, image)
            pair = torch.cat([image, image.flip(-1)])  # (2, 3, H, W)
            with seed_generators(0, image.device):
                same = _same_outputs(run_without_writes(safe, image), output)
            same = same and _same_outputs(ask_network(safe, pair), ask_network(plain, pair))
        except CannotRewrite as error:
            return Explainable(plain, str(error), classes, None)
        except Exception as error:  # a valid network may still fail as a graph, or on a batch of two
            return Explainable(plain, f"it cannot be rewritten ({error_line(error)})", classes, None)
        if not same:
            return Explainable(plain, _why_different(plain, image, pair, output), classes, None)
    return Explainable(safe, None, classes, feature_map)


def copy_for_attribution(model: nn.Module) -> nn.Module:
    """A copy in eval mode with plain weights, without gradients: an attribution needs the image's only."""
    copied = copy_network(model)
    copied.eval()  # its own eval() may return nothing
    bake_weights(copied)
    for parameter in copied.parameters():  # TorchScript's has no requires_grad_() of its own
        parameter.requires_grad_(False)
    return copied


def _strip_hooks(copied: nn.Module) -> bool:
    """Remove the user's hooks from a copy, where our passes would call them; True where one may change outputs."""
    may_change = False
    for module in copied.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            # a lazy layer's own hook gives it its weights
            strange = [key for key, hook in hooks.items() if not getattr(hook, "__module__", "").startswith("torch.nn")]
            may_change = may_change or bool(strange)
            for key in strange:
                del hooks[key]
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return may_change


def _why_different(plain: nn.Module, image: Tensor, pair: Tensor, output: Tensor) -> str:
    """Why the rewritten copy gives other outputs than the network."""
    if not _same_outputs(ask_network(plain, image), output):
        return "its answer to the same picture changes from call to call, even with the same random numbers"
    if not _same_outputs(ask_network(plain, pair)[:1], output):
        return "its answer to a picture depends on the other pictures of the batch"
    return "its outputs change when it is rewritten"


def _find_plain_weights(network: nn.Module, image: Tensor) -> set[int]:
    """The ids of the weights that a run of the network uses unchanged in a product."""
    used: set[int] = set()
    with watch_calls(lambda weight, call: used.add(id(weight))):
        network(image.clone())
    return used


def _bind_defaults(network: nn.Module) -> nn.Module:
    """Let a network take the image alone, so that torch.fx uses its other arguments' defaults (flags, `*args`)."""

    def forward(self: nn.Module, image: Tensor) -> Any:
        return own(image) if own is not None and self is network else kind.forward(self, image)

    kind, own = type(network), vars(network).pop("forward", None)  # own: set on the instance, which torch.fx ignores
    network.__class__ = type(kind.__name__, (kind,), {"forward": forward})
    return network


def _rewrite(safe: fx.GraphModule, image: Tensor) -> tuple[fx.GraphModule, str | None]:
    """A traced network in the form that captum needs, and the name of its feature map."""
    remove_writes(safe, image)
    fold_constants(safe, image)
    put_tensors_first(safe.graph)
    give_calls_modules(safe)
    feature_map = mark_feature_map(safe, image)
    safe.graph.lint()
    safe.recompile()
    safe.training = False  # of this module only: a layer that the network keeps in training mode stays in it
    return safe, feature_map


def _same_outputs(output: Any, expected: Tensor) -> bool:
    """Whether two outputs are the same up to rounding; both may be infinite or NaN in the same places."""
    if not isinstance(output, Tensor) or output.shape != expected.shape:
        return False
    largest = expected.nan_to_num(0, 0, 0).abs().max().item()
    return torch.allclose(output, expected, rtol=0, atol=AGREEMENT * largest, equal_nan=True)
