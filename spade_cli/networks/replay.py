"""A network is asked the same images again after late weights changed: what runs before those weights is not run again.

One watched pass says when each module is called, when each parameter is first used and which outputs are read by whom.
A call that ends before the first changed weight is used gives what it gave before. Its output is kept where something
reads it that runs again, and a tensor of NaN stands for it otherwise. So no kind of network needs to be known: answers
are compared with whole passes, and where they differ (random numbers, state, shared memory) all passes are whole.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from spade_cli.networks.modes_and_seeds import seed_generators

MEMORY = 256 * 2**20  # bytes of outputs that are kept, of all images together
SAME = 1e-4  # of an answer's largest score: rounding, where a kernel reads memory that is aligned otherwise

ModuleCall = tuple[nn.Module, int]  # a module, and the number of this call among those of a pass
Around = Callable[[ModuleCall, Callable[[], Any]], Any]  # (call, what runs it) -> its output


@dataclass(frozen=True)
class Cut:
    """The outermost calls that end before some weights are used, and those of them whose outputs are read afterwards.

    read: also by what lies between the calls, such as the addition of a residual block.
    """

    calls: frozenset[ModuleCall]
    read: frozenset[ModuleCall]


@dataclass
class _Kept:
    """What is known of some images: outputs by call, for the cuts from `first` to `last`."""

    images: Tensor
    first: int
    last: int
    outputs: dict[ModuleCall, Any] = field(default_factory=dict)


class Replay:
    """Answers of a network whose weights change between calls, from the output inwards.

    changing: the weights that change at depth 1, those that change at depth 2 besides, and so on. All other weights
    stay as they are. memory: bytes of outputs to keep.
    """

    def __init__(self, network: nn.Module, changing: Sequence[Sequence[Tensor]], memory: float = MEMORY) -> None:
        self.network, self.changing = network, changing
        self.exact = True  # False: every pass is whole
        self._room = memory
        self._cuts: list[Cut] = []  # that of depth 1 first
        self._bytes: dict[ModuleCall, float] = {}  # of a call's output, for each image
        self._kept: list[_Kept] = []
        self._checked: set[int] = set()  # depths

    @torch.no_grad()
    def ask(self, images: Tensor, depth: int) -> Tensor:
        """The network's scores, (N, classes), of images (N, 3, H, W), where nothing changed below this depth."""
        if not self.exact:
            return self._pass(images)
        if not self._cuts:
            return self._watch(images, depth)
        known = next((one for one in self._kept if torch.equal(one.images, images)), None)
        if known is None:
            return self._record(images, depth)
        cut = max(depth, known.first)
        if cut > known.last:
            return self._pass(images)
        if cut in self._checked or known is not self._kept[0]:
            return self._replay(known, cut)
        self._checked.add(cut)
        whole = self._pass(images)
        self._compare(known, cut, whole)
        return whole

    def _pass(self, images: Tensor) -> Tensor:
        scores: Tensor = self.network(images.clone())  # a clone: the first layer may write into it
        return scores

    def _watch(self, images: Tensor, depth: int) -> Tensor:
        """A whole pass that finds the cuts."""
        watch = _Watch()
        try:
            with watch, _forwards_replaced(self.network, watch.around):
                scores = self._pass(images)
        except Exception:  # a forward that cannot be watched; its own mistakes come up in the whole pass
            self.exact = False
            return self._pass(images)
        self._bytes = {call: size / len(images) for call, size in watch.bytes.items()}
        start = watch.time
        for weights in self.changing:
            start = min([start, *(watch.used.get(id(weight), 0) for weight in weights)])  # 0: it is hidden from us
            self._cuts.append(watch.cut(start))
        with seed_generators(0, images.device):  # a pass of ours takes none of the network's random numbers
            self._record(images, depth)
        return scores

    def _record(self, images: Tensor, depth: int) -> Tensor:
        """A whole pass that keeps what is needed at this depth and deeper, and tries it once."""
        known = _Kept(images.clone(), depth, depth - 1)
        read: set[ModuleCall] = set()
        for cut in self._cuts[depth - 1 :]:
            needed = len(images) * sum(self._bytes[call] for call in cut.read - read)
            if needed > self._room:
                break
            self._room -= needed
            read |= cut.read
            known.last += 1
        calls = {call for cut in self._cuts[depth - 1 : known.last] for call in cut.calls}

        def keep(call: ModuleCall, run: Callable[[], Any]) -> Any:
            output = run()
            if call in calls:
                known.outputs[call] = pytree.tree_map(_clone if call in read else _blank, output)
            return output

        with _forwards_replaced(self.network, keep):
            scores = self._pass(images)
        self._kept.append(known)
        if known.last >= depth:
            self._compare(known, depth, scores)
        return scores

    def _replay(self, known: _Kept, depth: int) -> Tensor:
        calls = self._cuts[depth - 1].calls

        def answer(call: ModuleCall, run: Callable[[], Any]) -> Any:
            if call not in calls or call not in known.outputs:
                return run()
            return pytree.tree_map(_clone, known.outputs[call])  # what follows may write into it

        with _forwards_replaced(self.network, answer):
            return self._pass(known.images)

    def _compare(self, known: _Kept, depth: int, whole: Tensor) -> None:
        """Give replaying up where it does not answer as a whole pass did."""
        try:
            with seed_generators(0, whole.device):  # as `ask_network` does
                scores = self._replay(known, depth)
            self.exact = torch.allclose(scores, whole, rtol=0, atol=SAME * float(whole.abs().max()))
        except Exception:  # whatever a user's forward does with NaN
            self.exact = False
        if not self.exact:
            self._kept.clear()


class _Watch(TorchFunctionMode):
    """The times of a pass: of calls of modules, of reading their outputs, of the first use of each parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0
        self.spans: dict[ModuleCall, tuple[int, int]] = {}  # first and last moment
        self.bytes: dict[ModuleCall, int] = {}  # of the outputs; only calls whose outputs can be kept are here
        self.used: dict[int, int] = {}  # id of a tensor -> when it is first used
        self.reads: dict[ModuleCall, list[int]] = defaultdict(list)
        self._made: Any = (
            WeakTensorKeyDictionary()
        )  # output -> (call that returned it, how often it was written by then)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.time += 1
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.used.setdefault(id(leaf), self.time)
                for call, _ in self._made.get(leaf, ()):
                    self.reads[call].append(self.time)
        return func(*args, **(kwargs or {}))

    def around(self, call: ModuleCall, run: Callable[[], Any]) -> Any:
        self.time += 1
        start = self.time
        output = run()
        self.time += 1
        with torch._C.DisableTorchFunction():
            leaves = pytree.tree_leaves(output)
            if all(isinstance(leaf, Tensor | int | float | None) for leaf in leaves):
                self.spans[call] = start, self.time
                tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
                self.bytes[call] = sum(leaf.nbytes for leaf in tensors)
                for leaf in tensors:  # who returned it before it was written into returned something else
                    same = [made for made in self._made.get(leaf, ()) if made[1] == leaf._version]
                    self._made[leaf] = [*same, (call, leaf._version)]
        return output

    def cut(self, start: int) -> Cut:
        """The cut before this moment."""
        outer: list[tuple[int, int, ModuleCall]] = []
        for first, last, call in sorted((*span, call) for call, span in self.spans.items() if span[1] < start):
            if not outer or first > outer[-1][1]:
                outer.append((first, last, call))
        starts = [first for first, _, _ in outer]

        def is_inside(moment: int) -> bool:
            at = bisect_right(starts, moment) - 1
            return at >= 0 and moment <= outer[at][1]

        calls = [call for _, _, call in outer]
        read = (call for call in calls if not all(map(is_inside, self.reads[call])))
        return Cut(frozenset(calls), frozenset(read))


@contextmanager
def _forwards_replaced(network: nn.Module, around: Around) -> Iterator[None]:
    """Inside the `with`, `around(call, run)` gives the output of each call of a module."""
    counts: Counter[nn.Module] = Counter()
    replaced: list[tuple[nn.Module, Any]] = []

    def replace(module: nn.Module) -> None:
        original = module.forward

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> Any:
            counts[module] += 1
            return around((module, counts[module]), lambda: original(*args, **kwargs))

        replaced.append((module, vars(module).get("forward")))
        module.forward = forward

    try:
        for module in network.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # its forward is not ours to replace
                replace(module)
        yield
    finally:
        for module, own in replaced:
            del vars(module)["forward"]
            if own is not None:
                module.forward = own


def _clone(leaf: Any) -> Any:
    is_blank = isinstance(leaf, Tensor) and leaf.dim() > 0 and not any(leaf.stride())
    return leaf.clone() if isinstance(leaf, Tensor) and not is_blank else leaf


def _blank(leaf: Any) -> Any:
    """NaN in the shape of a tensor, without its memory."""
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.new_full((), torch.nan).expand(leaf.shape) if leaf.is_floating_point() else leaf.clone()
