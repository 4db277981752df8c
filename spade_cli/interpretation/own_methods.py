"""The user's own saliency methods and objectives: found by name, checked, and told in one line where they fail."""

import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spade_cli.errors import SpadeError, UserError
from spade_cli.interpretation.explanation import CannotExplain, Explanation, explained, prepared
from spade_cli.interpretation.rewrite.explainable import Explainable, copy_of
from spade_cli.networks.borrow import seed_generators
from spade_cli.user_functions import find_factory


@dataclass(frozen=True)
class OwnMethod:
    """A function (network, image, target, **settings) of the user's as a saliency method like its siblings.

    The function gets a copy of the network in eval mode, which it may hook and change, the image (1, 3, H, W),
    normalised, on the network's device, and the class. It returns a map (3, H, W) or (1, 3, H, W), one channel instead
    of three, or an `Explanation`.
    """

    name: str
    function: Callable[..., Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, network: Explainable, image: Tensor, target: int) -> Explanation:
        """The map. CannotExplain, in one line, where the function raises or returns something else."""
        image = prepared(network, image, target)
        copied = copy_of(network.model if network.original is None else network.original)
        with _told(self.name, self.function, CannotExplain), torch.enable_grad(), seed_generators(0, image.device):
            made = self.function(copied, image.clone(), target, **self.settings)
        if isinstance(made, Explanation):
            return explained(self.name, self._checked(made.map, image), dict(made.checks), tuple(made.warnings))
        return explained(self.name, self._checked(made, image))

    def _checked(self, made: Any, image: Tensor) -> Tensor:
        """A map as (1, 3 or 1, H, W)."""
        height, width = image.shape[-2:]
        shapes = [(3, height, width), (1, height, width), (height, width)]
        shapes += [(1, *one) for one in shapes[:2]]
        if not isinstance(made, Tensor) or made.is_complex() or tuple(made.shape) not in shapes:
            found = f"a tensor {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise CannotExplain(f"{self.name} returned {found}; return a tensor (3, {height}, {width}), as the picture")
        return made.reshape(1, -1, height, width)


@dataclass(frozen=True)
class OwnObjective:
    """A function (activations, channel) of the user's that a visualization climbs instead of the channel's mean.

    The function gets a layer's activations for one picture, (1, C, H, W), (1, C, T) or (1, C), whatever the layer is,
    and the channel's index. It returns one number, as a tensor.
    """

    name: str
    function: Callable[..., Any]

    def __call__(self, activations: Tensor, channel: int) -> Tensor:
        """The number, a scalar. SpadeError, in one line, where the function raises or returns something else."""
        with _told(self.name, self.function, SpadeError):
            made = self.function(activations, channel)
        if not isinstance(made, Tensor) or made.numel() != 1 or made.is_complex():
            found = f"a tensor {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise SpadeError(f"{self.name} returned {found}; return a tensor with one value, which is to become large")
        return made.reshape(())


def own_method(function: str | Callable[..., Any], asked: str = "interpreter.methods", /, **settings: Any) -> OwnMethod:
    """A function, or 'package.module:function', as a saliency method, with its settings.

    UserError where it is not there, or cannot be called with (network, image, target).
    """
    name, found = _found(function, asked, ("network", "image", "target"), settings)
    return OwnMethod(name, found, settings)


def own_objective(function: str | Callable[..., Any], asked: str = "interpreter.objective") -> OwnObjective:
    """A function, or 'package.module:function', as an objective; UserError as in `own_method`."""
    if isinstance(function, OwnObjective):
        return function
    return OwnObjective(*_found(function, asked, ("activations", "channel"), {}))


def _found(
    function: str | Callable[..., Any], asked: str, takes: tuple[str, ...], settings: Mapping[str, Any]
) -> tuple[str, Callable[..., Any]]:
    """The name of a function and itself."""
    label = function if isinstance(function, str) else getattr(function, "__qualname__", repr(function))
    called = ", ".join(takes)
    if isinstance(function, str):
        example = f"mypackage.mymodule:my{asked.rpartition('.')[2].removesuffix('s')}"
        function = find_factory(function, f"{asked}: {function}", f"a function ({called})", example)
    name = getattr(function, "__name__", "")
    if not callable(function) or not name.isidentifier():
        raise UserError(f"{asked}: {label} is not a function with a name; write def myfunction({called})")
    try:
        inspect.signature(function).bind(*takes, **settings)
    except TypeError as error:
        raise UserError(
            f"{asked}: {label} cannot be called with ({called}): {error}; write def {name}({called}), and a default "
            "for each setting"
        ) from None
    except ValueError:  # a function of C does not say what it takes
        pass
    return name, function


@contextmanager
def _told(name: str, function: Callable[..., Any], kind: type[SpadeError]) -> Iterator[None]:
    """Whatever the user's function raises, in one line with the place in its file."""
    try:
        yield
    except (SpadeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        file = getattr(inspect.unwrap(function), "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [frame for frame in frames if file is not None and frame.filename == file.co_filename]
        where = f" in {Path(theirs[-1].filename).name}, line {theirs[-1].lineno}" if theirs else ""
        raise kind(f"{name} raised {type(error).__name__}{where}: {' '.join(str(error).split())}") from error
