"""A network -> its graph without in-place operations, with the shape of each tensor."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from spade_cli.networks.modes_and_seeds import seed_generators

SIZES: frozenset[Any] = frozenset({"size", "dim", "numel", "ndimension", "new_zeros", "new_ones", "new_full"})
LIKE: frozenset[Any] = frozenset(
    {torch.zeros_like, torch.ones_like, torch.full_like, torch.rand_like, torch.randn_like}
)
# x += y and the like -> the operation that returns a new tensor
ASSIGNMENTS: dict[Any, Any] = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
}


class CannotRewrite(Exception):  # noqa: N818
    """The network does something that cannot be rewritten; one line with the reason."""


class _Value(fx.Proxy):
    """What torch.fx gives a network instead of a tensor; its own class would trace x += y as x = x + y."""


def _assign(operation: Any) -> Any:
    return lambda self, other: self.tracer.create_proxy("call_function", operation, (self, other), {})


for operation in ASSIGNMENTS:
    setattr(_Value, f"__{operation.__name__}__", _assign(operation))


class WriteTracer(fx.Tracer):
    """Traces a network with its in-place operations.

    whole: ids of weights that are used unchanged in a product. A layer that holds one is not traced into, also one of a
    class of its own (timm's Conv2dSame, which looks at sizes).
    decided: the answers to the questions about sizes (`if height % 2:`) so far; the next one raises _OpenQuestion.
    """

    def __init__(self, whole: set[int], decided: Sequence[bool] = ()) -> None:
        super().__init__()
        self.whole, self.decided = whole, iter(decided)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Which way an `if` goes; TraceError where that depends on more than the sizes of tensors."""
        if not _is_about_sizes(obj.node):
            return super().to_bool(obj)
        answer = next(self.decided, None)
        if answer is None:
            raise _OpenQuestion(obj.node)
        return answer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module becomes one call of the graph."""
        layer = isinstance(m, nn.Conv2d | nn.Linear) and id(m._parameters.get("weight")) in self.whole
        return layer or super().is_leaf_module(m, module_qualified_name)

    def path_of_module(self, mod: nn.Module) -> str:
        """The name of a layer. One that forward made, as in `nn.ReLU()(x)` or `self.layers[:3](x)`, is given one.

        CannotRewrite where its weights are not the network's.
        """
        try:
            return super().path_of_module(mod)
        except NameError:
            known = self.submodule_paths or {}
            new = {part: inner for inner, part in mod.named_modules() if part not in known}
        if held := [part for part in new if part._parameters or part._buffers]:
            raise CannotRewrite(
                f"forward calls a {type(held[0]).__name__} with weights that is not among the network's layers; make "
                "it in __init__, as an attribute or in an nn.ModuleList"
            )
        name = f"made_in_forward_{len(known)}"
        self.root.add_module(name, mod)
        known |= {part: f"{name}.{inner}".rstrip(".") for part, inner in new.items()}
        return name

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """The proxy of one value."""
        return _Value(node, self)


class _OpenQuestion(BaseException):
    """A node asks about sizes, which tracing cannot answer. No Exception: the network's code may catch those."""


def trace_graph(network: nn.Module, whole: set[int], image: Tensor) -> fx.GraphModule:
    """The network's graph for images of this size, (1, 3, H, W), with its in-place operations.

    A question about sizes is answered by a run of the graph up to it on the image. Then tracing starts again, since a
    network cannot run while it is traced.
    Errors: fx's TraceError where an `if` depends on values; whatever the network's own Python raises on proxies.
    """
    decided: list[bool] = []
    while True:
        tracer = WriteTracer(whole, decided)
        try:
            with seed_generators(0, image.device):  # random numbers that do not depend on the image become constants
                return fx.GraphModule(network, tracer.trace(network))
        except _OpenQuestion as question:
            (node,) = question.args
            tracer.graph.output(node)
            asking = fx.GraphModule(network, tracer.graph)
            asking.graph.eliminate_dead_code()
            asking.recompile()
            decided.append(bool(asking(image.clone())))


def _is_about_sizes(node: fx.Node) -> bool:
    """Whether a value is computed from sizes and constants alone."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if is_size(one):
            continue
        if one.op not in ("call_function", "call_method"):
            return False
        waiting += one.all_input_nodes
    return True


def is_size(node: fx.Node) -> bool:
    """Whether a node reads the size, type or device of a tensor, and not its values."""
    sizes = node.target in (SIZES if node.op == "call_method" else LIKE)
    return sizes or (node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device"))


def remove_writes(graph_module: fx.GraphModule, image: Tensor) -> None:
    """Replace the in-place operations of a graph; a run on the image (1, 3, H, W) shows which tensors they write into.

    What reads the tensor after the write reads the operation's result instead, so that `kept = x; x += y; return kept`
    keeps its meaning for all values. Each tensor's node gets `meta["shape"]`.

    Errors: CannotRewrite where a part or a view of the tensor is read after the write, as `kept = x[:, 0]; x += y`.
    """
    _WriteWatcher(graph_module, redirect=True).run(image.clone())
    for node in graph_module.graph.nodes:  # only now: a module that is called twice writes twice
        _remove_write(graph_module, node)
    graph_module.recompile()


def fold_constants(graph_module: fx.GraphModule, image: Tensor) -> None:
    """Replace what is computed from weights alone (Swin's positions, standardised weights) by buffers.

    No gradient passes through it, and captum fails on a layer without a gradient.
    """
    signal: set[fx.Node] = set()  # what depends on the image
    for node in graph_module.graph.nodes:
        if node.op == "placeholder" or signal.intersection(node.all_input_nodes):
            signal.add(node)
    run = _WriteWatcher(graph_module, redirect=False)
    run.run(image.clone())
    for node in list(graph_module.graph.nodes):
        called = node.op in ("call_module", "call_function", "call_method")
        if not called or node in signal or not signal.intersection(node.users) or not isinstance(run.env[node], Tensor):
            continue
        graph_module.register_buffer(name := f"constant_{node.name}", run.env[node].detach().clone())
        node.op, node.target, node.args, node.kwargs = "get_attr", name, (), {}
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()


def run_without_writes(graph_module: fx.GraphModule, image: Tensor) -> Any:
    """The graph's outputs. CannotRewrite where an operation still writes into a tensor."""
    return _WriteWatcher(graph_module, redirect=False).run(image.clone())


class _WriteWatcher(fx.Interpreter):
    """Runs a graph, and redirects or refuses writes into tensors; torch counts a tensor's writes in `_version`."""

    def __init__(self, graph_module: fx.GraphModule, redirect: bool) -> None:
        # every value is kept until the end: a new one could get the memory of one that was freed
        super().__init__(graph_module, garbage_collect_values=False)
        self.redirect, self.extra_traceback = redirect, False

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and compare its inputs before and after."""
        inputs = [tensor for source in n.all_input_nodes for tensor in _tensors(self.env[source])]
        versions = [tensor._version for tensor in inputs]
        value = super().run_node(n)
        n.meta["shape"] = tuple(value.shape) if isinstance(value, Tensor) else None
        written = [tensor for tensor, was in zip(inputs, versions, strict=True) if tensor._version != was]
        if written and not self.redirect:
            raise CannotRewrite(f"the in-place operation {n.name} cannot be taken out")
        for tensor in written:
            self._read_result_instead(n, tensor, value)
        return value

    def _read_result_instead(self, written_by: fx.Node, tensor: Tensor, value: Any) -> None:
        """Let everything behind a write that reads the tensor read the write's result."""
        behind = set()
        node = written_by
        while (node := node.next).op != "root":
            behind.add(node)
        memory = tensor.untyped_storage().data_ptr()
        for other, held in self.env.items():
            readers = behind & set(other.users)
            if not readers or all(part.untyped_storage().data_ptr() != memory for part in _tensors(held)):
                continue
            if held is not tensor or value is not tensor:
                raise CannotRewrite(f"{other.name} is read after the in-place operation {written_by.name} changed it")
            other.replace_all_uses_with(written_by, delete_user_cb=readers.__contains__)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value: itself, or those of a tuple, list or dictionary."""
    return (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def _remove_write(graph_module: fx.GraphModule, node: fx.Node) -> None:
    """Let a node call the operation that returns a new tensor instead."""
    if node.op == "call_module" and hasattr(called := graph_module.get_submodule(str(node.target)), "inplace"):
        called.inplace = False  # type: ignore[assignment]
    if node.kwargs.get("inplace") is True:
        node.update_kwarg("inplace", False)
    if node.target in ASSIGNMENTS:
        node.target = ASSIGNMENTS[node.target]
    name = node.target if isinstance(node.target, str) else node.target.__name__
    if not name.endswith("_"):
        return
    if node.op == "call_method" and callable(getattr(Tensor, name[:-1], None)):
        node.target = name[:-1]
    for functions in (torch, F):
        if node.target is getattr(functions, name, None) and hasattr(functions, name[:-1]):
            node.target = getattr(functions, name[:-1])
