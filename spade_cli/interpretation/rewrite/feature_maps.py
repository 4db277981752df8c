"""The feature map for Grad-CAM: the last one of a rewritten network, or the output of a layer.

A map is (1, C, h, w), or (1, h, w, C) where channels come last (Swin), or tokens (1, T, C): a few class and register
tokens, then a grid (ViT). A `FeatureMap` module is inserted behind it and sees it as (1, C, h, w).
"""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from spade_cli.errors import UserError
from spade_cli.interpretation.channels import channel_axis
from spade_cli.interpretation.rewrite.rewrite_graph import (
    FLATTEN_CALLS,
    POOL_CALLS,
    POOL_MODULES,
    Add,
    ArrangedMap,
    FeatureMap,
    is_tensor,
    module_of,
    shape,
)

PREFIX = 8  # class, distillation and register tokens before the grid: DINOv2 has five
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.RMSNorm)
NORM_CALLS: frozenset[Any] = frozenset({F.layer_norm, F.group_norm, F.batch_norm, F.rms_norm})
CONVOLUTIONS: frozenset[Any] = POOL_CALLS | {F.conv2d}
LOOKED_THROUGH = (*POOL_MODULES, nn.Dropout, nn.Dropout2d, nn.Identity)
CLOSE_NAMES = 3  # as many as fit on the error's line


Arrangement = str | tuple[int, int, int]  # "channels first", "channels last", or tokens (before the grid, h, w)


def mark_feature_map(safe: fx.GraphModule, image: Tensor) -> str | None:
    """Put a `FeatureMap` behind the last map that reaches the output, and return its name; None where there is none.

    It is the input of the last pooling or flattening, and of the poolings and dropouts before that: ResNet's layer4,
    the last ReLU of VGG. Where tokens come later, it is the last normalised tokens on whose grid the output depends: in
    a ViT that reads its class token, the input of the last attention.
    """
    order = {node: place for place, node in enumerate(safe.graph.nodes)}
    found = [node for node in (_find_pooled_map(safe), _find_last_tokens(safe, image)) if node is not None]
    return _mark(safe, max(found, key=lambda node: order[node]), "feature_map") if found else None


def mark_layer(safe: fx.GraphModule, layer: str) -> str:
    """Put a `FeatureMap` behind the output of a layer of the user's network, by its dotted name; returns its name.

    UserError where its output is no map.
    """
    last = None
    for node in safe.graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        if is_tensor(node) and any(path == layer for path, _ in stack.values()):
            last = node
    if last is None or _find_arrangement(safe, last) is None:
        gives = f"gives {shape(last)}" if last is not None else "gives no tensor of its own"
        raise UserError(
            f"interpreter.cam_layer={layer} {gives}; take a layer with positions: (1, C, h, w), (1, h, w, C), (1, T, C)"
        )
    return _mark(safe, last, "asked_map")


def check_cam_layer(methods: Mapping[str, object], model: nn.Module) -> None:
    """UserError where a method, a partial or smoothed, is bound to a layer that the network does not have."""
    names = [name for name, _ in model.named_modules() if name]
    for method in methods.values():
        layer = getattr(method, "keywords", {}).get("layer")
        if layer is not None and layer not in names:
            close = difflib.get_close_matches(layer, names, CLOSE_NAMES)
            hint = (
                f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names[:CLOSE_NAMES])}, ..."
            )
            raise UserError(f"interpreter.cam_layer={layer} is no layer of this network; {hint}")


def _mark(safe: fx.GraphModule, source: fx.Node, name: str) -> str:
    """Let everything behind `source` read it through a FeatureMap."""
    arrangement = _find_arrangement(safe, source)
    assert arrangement is not None
    plain = arrangement == "channels first"
    safe.add_submodule(name, FeatureMap() if plain else ArrangedMap(arrangement))
    with safe.graph.inserting_after(source):
        mark = safe.graph.call_module(name)
    source.replace_all_uses_with(mark)
    mark.args, mark.meta = (source,), {"shape": shape(source)}
    safe.recompile()
    return name if plain else f"{name}.map"


def _find_pooled_map(safe: fx.GraphModule) -> fx.Node | None:
    """The input of the last pooling or flattening of a map."""
    for node in reversed(safe.graph.nodes):
        source = node.all_input_nodes[0] if node.all_input_nodes else None
        if source is None or not (is_tensor(source) and is_tensor(node)) or not _is_map(source):
            continue
        if not (_calls(safe, node, POOL_MODULES, POOL_CALLS) or _flattens(safe, node)):
            continue
        while _calls(safe, source, LOOKED_THROUGH, POOL_CALLS | {"clone"}):
            source = source.all_input_nodes[0]
        return source if source.op != "placeholder" and _find_arrangement(safe, source) else None
    return None


def _find_last_tokens(safe: fx.GraphModule, image: Tensor) -> fx.Node | None:
    """The last normalised tokens (1, T, C) on whose grid the output depends; without normalisation, the last sum."""
    tokens = [node for node in safe.graph.nodes if is_tensor(node) and len(shape(node)) == 3]
    tokens = [node for node in tokens if _find_arrangement(safe, node) is not None]
    for modules, calls in ((NORMS, NORM_CALLS), ((Add,), frozenset())):
        asked = [node for node in tokens if _calls(safe, node, modules, calls)]
        for node, slope in reversed(_find_slopes(safe, image, asked)):
            before = _find_arrangement(safe, node)[0]  # type: ignore[index]
            if slope is not None and slope[:, before:].any():
                return node
    return None


def _find_slopes(safe: fx.GraphModule, image: Tensor, asked: list[fx.Node]) -> list[tuple[fx.Node, Tensor | None]]:
    """These nodes with the gradient of a random sum of the outputs with respect to each."""
    if not asked:
        return []
    with torch.enable_grad():
        kept = _ValueKeeper(safe, asked)
        output = kept.run(image.detach().clone().requires_grad_())  # (1, classes)
        generator = torch.Generator().manual_seed(0)
        asking = torch.randn(output.shape, generator=generator).to(output)  # a plain sum may be constant
        asked = [node for node in asked if kept.values[node].requires_grad]  # others are made of weights alone
        if not asked:
            return []
        slopes = torch.autograd.grad((output * asking).sum(), [kept.values[node] for node in asked], allow_unused=True)
    return list(zip(asked, slopes, strict=True))


class _ValueKeeper(fx.Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, graph_module: fx.GraphModule, asked: list[fx.Node]) -> None:
        super().__init__(graph_module)
        self.asked, self.extra_traceback = set(asked), False
        self.values: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        value = super().run_node(n)
        if n in self.asked:
            self.values[n] = value
        return value


def _find_arrangement(safe: fx.GraphModule, node: fx.Node) -> Arrangement | None:
    """How a tensor's values lie over a grid of more than one position; None where they do not."""
    dims = shape(node)
    if len(dims) == 4 and dims[0] == 1:
        last = channel_axis(dims, module_of(safe, node), _find_sides(safe)) == 3
        positions = dims[1] * dims[2] if last else dims[2] * dims[3]
        return None if positions < 2 else "channels last" if last else "channels first"
    if len(dims) != 3 or dims[0] != 1:
        return None
    grids = []
    for earlier in safe.graph.nodes:  # the tokens' grid is that of the map before them
        if earlier is node:
            break
        if _calls(safe, earlier, (nn.Conv2d, *POOL_MODULES), CONVOLUTIONS) and len(shape(earlier)) == 4:
            grids.append(shape(earlier)[2:])
    for height, width in reversed(grids):
        if 1 < height * width <= dims[1] <= height * width + PREFIX:
            return dims[1] - height * width, height, width
    for before in range(3):  # without a map: a grid of square patches behind at most two tokens
        grid = _find_square_patches(dims[1] - before, *_find_sides(safe))
        if grid is not None:
            return before, *grid
    return None


def _find_sides(safe: fx.GraphModule) -> tuple[int, int]:
    """Height and width of the picture that the graph was made for."""
    height, width = shape(next(node for node in safe.graph.nodes if node.op == "placeholder"))[-2:]
    return height, width


def _find_square_patches(count: int, height: int, width: int) -> tuple[int, int] | None:
    """The rows and columns of so many squares that tile a picture of this size; None where none do."""
    rows = math.isqrt(max(0, count) * height // width)
    if rows and count > 1 and count % rows == 0 and rows * width == count // rows * height:
        return rows, count // rows
    return None


def _is_map(node: fx.Node) -> bool:
    """Whether a tensor is a map with more than one position."""
    dims = shape(node)
    return len(dims) == 4 and dims[2] * dims[3] > 1


def _calls(safe: fx.GraphModule, node: fx.Node, modules: tuple[type, ...], targets: frozenset[Any] | set[Any]) -> bool:
    """Whether a node calls one of these kinds of module or one of these functions."""
    called: Callable[..., Any] | None = module_of(safe, node)
    return isinstance(called, modules) or (called is None and node.target in targets)


def _flattens(safe: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes a vector (1, features) of its input."""
    return _calls(safe, node, (nn.Flatten,), FLATTEN_CALLS) and len(shape(node)) == 2
