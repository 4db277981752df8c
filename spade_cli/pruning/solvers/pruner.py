"""What a pruner is: a function (weight, hessian, sparsity, block) -> weight; and how one is found by its name."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any, Protocol, TypeVar

from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.pruning.solvers.damped_hessian import Hessian, LowRank

ARGUMENTS = ("weight", "hessian", "sparsity", "block")  # what makes a function a pruner
Function = TypeVar("Function", bound=Callable[..., Tensor])


class Pruner(Protocol):
    """A pruner with its settings bound."""

    def __call__(self, weight: Tensor, hessian: Any, sparsity: float, block: int, /) -> Tensor:
        """Weight (g, r, c), hessian (g, c, c) -> (g, r, c); other shapes and a `LowRank` where it `handles` them.

        sparsity: the share of the layer's units that become zero; block: the columns of one kernel.
        """
        ...


def handles(*what: str, ladder: Callable[..., list[Tensor]] | None = None) -> Callable[[Function], Function]:
    """Say what a pruner takes beyond one layer's (g, r, c) weight and (g, c, c) Hessian.

    "stacked": (n, g, r, c) and (n, g, c, c) of n images, each with its own budget. "low_rank": a `LowRank` Hessian.
    "gradient": a fifth argument, |d score / d weight| (g, r, c), the mean over the samples (`measure_gradients`).
    `ladder`: its `ladder`, see there.
    """

    def mark(function: Function) -> Function:
        function.handles = frozenset(what)  # type: ignore[attr-defined]
        function.ladder = ladder  # type: ignore[attr-defined]
        return function

    return mark


def ladder(pruner: Pruner, weight: Tensor, hessian: Any, shares: Sequence[float], block: int) -> list[Tensor]:
    """The layer pruned at each of these shares, in their order; the arguments are otherwise the pruner's own.

    A pruner that has a `ladder` of its own (a function with the same settings that takes all the shares) solves them
    together, from the same choices; any other is called for each share.
    """
    function, settings = (pruner.func, pruner.keywords) if isinstance(pruner, partial) else (pruner, {})
    together: Callable[..., list[Tensor]] | None = getattr(function, "ladder", None)
    if together is None:
        return [pruner(weight, hessian, share, block) for share in shares]
    return together(weight, hessian, shares, block, **settings)


def has_ladder(pruner: Pruner) -> bool:
    """Whether a pruner, with settings bound or not, solves a layer at several shares together."""
    return getattr(pruner.func if isinstance(pruner, partial) else pruner, "ladder", None) is not None


def can(pruner: Pruner, what: str) -> bool:
    """Whether a pruner, with settings bound or not, `handles` this."""
    function = pruner.func if isinstance(pruner, partial) else pruner
    return what in getattr(function, "handles", ())


def find_pruner(name: str) -> Pruner:
    """The pruner of this name, in the file of its name or among the baselines. UserError where there is none."""
    for home in (f"{__package__}.{name}", f"{__package__}.weight_scores") if name.isidentifier() else ():
        pruner: Any = getattr(import_module(home), name, None) if find_spec(home) is not None else None
        if callable(pruner) and tuple(signature(pruner).parameters)[:4] == ARGUMENTS:
            found: Pruner = pruner
            return found
    raise UserError(
        f"pruner={name!r} is unknown: give forward, gradient, magnitude, obs, random, sparsegpt, wanda, or a function "
        f"({', '.join(ARGUMENTS)}) -> weight"
    )


def give_gradient(pruner: Pruner, gradient: Tensor | None) -> Pruner:
    """The pruner with a layer's gradient (g, r, c) bound, if it takes one."""
    return partial(pruner, gradient=gradient) if can(pruner, "gradient") else pruner  # type: ignore[call-arg]


def fit_hessian(pruner: Pruner, hessian: Hessian) -> Hessian:
    """The Hessian as this pruner takes it."""
    return hessian.dense() if isinstance(hessian, LowRank) and not can(pruner, "low_rank") else hessian
