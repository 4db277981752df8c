"""What a pruner is: a function (weight, hessian, sparsity, block) -> weight, found by its name."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any, Protocol, TypeVar

from torch import Tensor

from spade_cli.errors import UserError


class Pruner(Protocol):
    """A pruner with its settings bound."""

    def __call__(self, weight: Tensor, hessian: Any, sparsity: float, block: int, /) -> Tensor:
        """Weight (g, r, c), hessian (g, c, c) -> (g, r, c); other shapes and a `LowRank` where it `handles` them.

        sparsity: the share of the layer's units that become zero; block: the columns of one kernel.
        """
        ...


FILES = {"random": "random_weights"}  # where the file is not called as the solver: Python has a random of its own
ARGUMENTS = ("weight", "hessian", "sparsity", "block")  # what makes a function a pruner
Function = TypeVar("Function", bound=Callable[..., Tensor])


def handles(*what: str) -> Callable[[Function], Function]:
    """Say what a pruner takes beyond one layer's (g, r, c) weight and (g, c, c) Hessian.

    "stacked": (n, g, r, c) and (n, g, c, c) of n images, each with its own budget. "low_rank": a `LowRank` Hessian.
    """

    def marked(function: Function) -> Function:
        function.handles = frozenset(what)  # type: ignore[attr-defined]
        return function

    return marked


def can(pruner: Pruner, what: str) -> bool:
    """Whether a pruner, with settings bound or not, `handles` this."""
    function = pruner.func if isinstance(pruner, partial) else pruner
    return what in getattr(function, "handles", ())


def pruner_named(name: str) -> Pruner:
    """The solver of this folder's file of that name: "obs" -> obs.obs. Raises UserError where there is none."""
    home = f"{__package__}.{FILES.get(name, name)}"
    if name.isidentifier() and find_spec(home) is not None:
        pruner = getattr(import_module(home), name, None)
        if callable(pruner) and tuple(signature(pruner).parameters)[:4] == ARGUMENTS:
            return pruner
    raise UserError(
        f"pruner={name!r} is unknown: give forward, magnitude, obs, random, sparsegpt, wanda, or a function "
        f"({', '.join(ARGUMENTS)}) -> weight"
    )
