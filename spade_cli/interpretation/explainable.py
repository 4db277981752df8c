"""Network -> a copy of it that captum's methods are right on, made by one torch.fx pass."""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from spade_cli.errors import UserError

# The pass changes no arithmetic, so the copy differs by rounding at most; a GPU may choose another convolution
# algorithm.
AGREEMENT = 1e-5  # of the largest output


@dataclass(frozen=True)
class Explainable:
    """A network ready to be explained; `model` is our own copy, the user's network is never touched.

    model: a copy in eval mode, without the user's hooks. Where `reason` is None every ReLU is a module of its own.
    reason: why the network could not be rewritten; then `model` is a plain copy, and methods that hook modules refuse.
    classes: outputs of the network, the range of a target.
    feature_map: name in `model` of the last spatial feature map (1, C, h, w), for Grad-CAM; None where there is none.
    """

    model: nn.Module
    reason: str | None
    classes: int
    feature_map: str | None

    @property
    def device(self) -> torch.device:
        """Where the network is; an image is brought there."""
        tensor = next(self.model.parameters(), next(self.model.buffers(), torch.empty(0)))
        return tensor.device


class Add(nn.Module):
    """The sum of two tensors as a module, so that LRP can give it a rule."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        return first + second


class ClippedReLU(nn.ReLU):
    """ReLU6 that captum takes for a ReLU: guided backpropagation looks for nn.ReLU and would pass over nn.ReLU6."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: D102
        return F.relu6(input)


class MaxPool(nn.MaxPool2d):
    """Max pooling as a type of its own, so that DeepLift can be given a rule that holds where windows overlap."""


class FeatureMap(nn.Identity):
    """Marks the last spatial feature map; changes nothing."""


RELU: frozenset[Any] = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"})
RELU6: frozenset[Any] = frozenset({F.relu6})
ADD: frozenset[Any] = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
MAX_POOL: frozenset[Any] = frozenset({F.max_pool2d, torch.max_pool2d})
POOL_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
POOL_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)
POOL_CALLS: frozenset[Any] = MAX_POOL | {F.adaptive_avg_pool2d, F.avg_pool2d, torch.mean, "mean", "amax"}
FLATTEN_CALLS: frozenset[Any] = frozenset({torch.flatten, torch.reshape, "flatten", "view", "reshape"})


def explainable(model: nn.Module, image: Tensor) -> Explainable:
    """Copy a network and make the copy safe for captum; `image` (1, 3, H, W) is what the copy is tried on.

    Every ReLU and ReLU6 call, functional and in-place ones included, becomes a module of its own, every max pooling and
    other parameter-free module is called once, and the sum of two tensors becomes an `Add`. Outputs stay the same,
    which is checked on the image (alone, and in a batch of two because DeepLift doubles the batch); where they do not,
    or where torch.fx cannot trace the network, `reason` says so.

    Errors: UserError where the network's output is not (1, classes).
    """
    plain = _copy(model)
    hooked = _strip_hooks(plain)
    tensor = next(plain.parameters(), None)
    image = image if tensor is None else image.to(tensor.device)
    pair = torch.cat([image, image.flip(-1)])  # (2, 3, H, W)
    with torch.no_grad():
        output = plain(image)
        if not (isinstance(output, Tensor) and output.dim() == 2 and output.shape[0] == 1):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise UserError(f"explaining needs a classifier with outputs (1, classes); this network gave {found}")
        classes = output.shape[1]
        if hooked and not _agree(_copy(model)(image), output):
            kept = _copy(model)  # the hooks are part of what the network computes: keep them
            return Explainable(kept, "forward hooks on the network change its output", classes, None)
        try:
            graph = fx.Tracer().trace(copied := copy.deepcopy(plain))
        except Exception as error:  # tracing runs the network's own Python on stand-ins; it may fail in any way
            return Explainable(plain, f"torch.fx cannot trace it ({_one_line(error)})", classes, None)
        safe = fx.GraphModule(copied, graph)
        ShapeProp(safe).propagate(image)
        _one_module_per_call(safe)
        feature_map = _mark_feature_map(safe)
        safe.graph.lint()
        safe.recompile()
        safe.eval()
        if not (_agree(safe(image), output) and _agree(safe(pair), plain(pair))):
            return Explainable(plain, "its outputs change when in-place operations are taken out", classes, None)
    return Explainable(safe, None, classes, feature_map)


def _copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode whose parameters ask for no gradient: attributions need the image's only."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def _strip_hooks(model: nn.Module) -> bool:
    """Take the user's hooks off a copy, where they would fire on our passes; says whether one could change outputs."""
    found = False
    for module in model.modules():
        for name in ("_forward_pre_hooks", "_forward_hooks"):
            hooks = getattr(module, name)
            # weight_norm, spectral_norm and prune compute the weight itself in a hook: they are part of the network
            strange = [key for key, hook in hooks.items() if not _of_torch(hook)]
            found = found or bool(strange)
            for key in strange:
                del hooks[key]
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    return found


def _of_torch(hook: Any) -> bool:
    """Whether a hook is one of torch's own that compute weights."""
    return type(hook).__module__.startswith("torch.nn.utils") or getattr(hook, "__module__", "").startswith("torch.nn")


def _agree(output: Any, expected: Tensor) -> bool:
    """Whether two outputs are the same up to rounding; two that are not finite in the same places agree as well."""
    if not isinstance(output, Tensor) or output.shape != expected.shape:
        return False
    largest = expected.nan_to_num(0, 0, 0).abs().max().item()
    return torch.allclose(output, expected, rtol=0, atol=AGREEMENT * largest, equal_nan=True)


def _one_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_tensor(value: Any) -> bool:
    """Whether a graph's value is one tensor; a size or a Python number is not."""
    return isinstance(value, fx.Node) and hasattr(value.meta.get("tensor_meta"), "shape")


def shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a tensor in the graph, as it was on the image."""
    return tuple(node.meta["tensor_meta"].shape)


def module_of(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module a node calls, or None where it calls a function."""
    return graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None


def replace_call(graph_module: fx.GraphModule, node: fx.Node, module: nn.Module, args: tuple[Any, ...]) -> None:
    """Let `node` call a new module instead of what it called; the name is the node's own, so it is unique."""
    name = f"explained_{node.name}"
    graph_module.add_submodule(name, module)
    node.op, node.target, node.args, node.kwargs = "call_module", name, args, {}


def _one_module_per_call(safe: fx.GraphModule) -> None:
    """Rewrite the graph: one module for each call of ReLU, max pooling and addition, none of them in place."""
    seen: set[str] = set()
    for node in list(safe.graph.nodes):
        if node.op not in ("call_module", "call_function", "call_method"):
            continue
        called = module_of(safe, node)
        if called is not None and hasattr(called, "inplace"):
            called.inplace = False  # type: ignore[assignment]
        if (made := _new_module(node, called)) is not None:
            inputs = node.args if isinstance(made, Add) else node.all_input_nodes[:1]
            replace_call(safe, node, made, tuple(inputs))
        elif called is not None and node.target in seen and not list(called.parameters()):
            replace_call(safe, node, copy.deepcopy(called), node.args)
        elif called is not None:
            seen.add(str(node.target))
    for node in list(safe.graph.nodes):
        called = module_of(safe, node)
        if called is not None and len(node.all_input_nodes) == 1 and not list(called.parameters()):
            _own_input(safe, node)
    safe.delete_all_unused_submodules()


def _new_module(node: fx.Node, called: nn.Module | None) -> nn.Module | None:
    """The module a call is to be replaced with, or None where it stays as it is."""
    if isinstance(called, nn.ReLU) or node.target in RELU:
        return nn.ReLU()
    if isinstance(called, nn.ReLU6) or node.target in RELU6:
        return ClippedReLU()
    if node.target in ADD and len(node.args) == 2 and all(map(is_tensor, node.args)) and not node.kwargs:
        return Add()
    if type(called) is nn.MaxPool2d and not called.return_indices:
        return MaxPool(**{key: getattr(called, key) for key in POOL_ARGUMENTS})
    if node.target in MAX_POOL and node.args and is_tensor(node):
        settings: dict[str, Any] = {**dict(zip(POOL_ARGUMENTS, node.args[1:], strict=False)), **node.kwargs}
        return MaxPool(**{key: settings[key] for key in POOL_ARGUMENTS if key in settings})
    return None


def _own_input(safe: fx.GraphModule, node: fx.Node) -> None:
    """Give a module an input tensor of its own.

    Captum hangs a hook on the input tensor of a ReLU or max pooling and replaces its gradient. Where other layers read
    the same tensor (the pooling branch of an Inception block) their gradient would be thrown away; where a ReLU made
    it, the ReLU's own hook sits on it, fires first, and would see the gradient that was not replaced.
    """
    source = node.all_input_nodes[0]
    with safe.graph.inserting_before(node):
        own = safe.graph.call_method("clone", (source,))
    own.meta = dict(source.meta)
    node.replace_input_with(source, own)


def _mark_feature_map(safe: fx.GraphModule) -> str | None:
    """Put a `FeatureMap` behind the last spatial map, and return its name.

    It is what the last pooling or the flattening to a vector reads, seen through poolings and dropouts before it:
    ResNet's layer4, the last ReLU of VGG. A map that turns into tokens (ViT's patches) is not followed by either.
    """
    for node in reversed(safe.graph.nodes):
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None or not (is_tensor(source) and is_tensor(node)) or not _is_map(source):
            continue
        if not (_calls(safe, node, POOL_MODULES, POOL_CALLS) or _flattens(safe, node)):
            continue
        while _calls(safe, source, (*POOL_MODULES, nn.Dropout, nn.Dropout2d, nn.Identity), POOL_CALLS | {"clone"}):
            source = source.all_input_nodes[0]
        if source.op == "placeholder":
            return None  # the image itself
        safe.add_submodule("feature_map", FeatureMap())
        with safe.graph.inserting_after(source):
            mark = safe.graph.call_module("feature_map")
        source.replace_all_uses_with(mark)
        mark.args, mark.meta = (source,), dict(source.meta)
        return "feature_map"
    return None


def _is_map(node: fx.Node) -> bool:
    """Whether a tensor is (1, C, h, w) with more than one position."""
    dims = shape(node)
    return len(dims) == 4 and dims[2] * dims[3] > 1


def _calls(safe: fx.GraphModule, node: fx.Node, modules: tuple[type, ...], targets: frozenset[Any] | set[Any]) -> bool:
    """Whether a node calls one of these kinds of module or one of these functions."""
    called: Callable[..., Any] | None = module_of(safe, node)
    return isinstance(called, modules) or (called is None and node.target in targets)


def _flattens(safe: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes a vector (1, features) of its input."""
    return _calls(safe, node, (nn.Flatten,), FLATTEN_CALLS) and len(shape(node)) == 2
