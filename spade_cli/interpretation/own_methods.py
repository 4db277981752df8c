"""The user's own saliency methods and objectives: find the function, check it, and report its errors in one line."""

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
from spade_cli.interpretation.explanation import CannotExplain, Explanation, make_explanation, prepare_image
from spade_cli.interpretation.rewrite.explainable import Explainable, copy_for_attribution
from spade_cli.networks.modes_and_seeds import seed_generators
from spade_cli.user_functions import find_factory


@dataclass(frozen=True)
class OwnMethod:
    """A function (network, image, target, **settings) of the user's as a `SaliencyMethod`.

    The function gets a copy of the network in eval mode, which it may hook and change, the image (1, 3, H, W),
    normalised, on the network's device, and the class. It returns a map (3, H, W) or (1, 3, H, W), with three channels
    or one, or an `Explanation`.
    """

    name: str
    function: Callable[..., Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, network: Explainable, image: Tensor, target: int) -> Explanation:
        """The map. CannotExplain, in one line, where the function raises or returns something else."""
        image = prepare_image(network, image, target)
        model = copy_for_attribution(network.model if network.original is None else network.original)
        if network.question is not None and network.original is not None:
            append = network.question.append_score
            model.register_forward_hook(lambda module, inputs, output: append(output))
        with (
            _report_errors(self.name, self.function, CannotExplain),
            torch.enable_grad(),
            seed_generators(0, image.device),
        ):
            result = self.function(model, image.clone(), target, **self.settings)
        if isinstance(result, Explanation):
            saliency = self._check_map(result.map, image)
            return make_explanation(self.name, saliency, dict(result.checks), tuple(result.warnings))
        return make_explanation(self.name, self._check_map(result, image))

    def _check_map(self, result: Any, image: Tensor) -> Tensor:
        """The map as (1, 3 or 1, H, W). CannotExplain where it has another shape."""
        height, width = image.shape[-2:]
        shapes = [(3, height, width), (1, height, width), (height, width)]
        shapes += [(1, *one) for one in shapes[:2]]
        if not isinstance(result, Tensor) or result.is_complex() or tuple(result.shape) not in shapes:
            found = f"a tensor {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise CannotExplain(f"{self.name} returned {found}; return a tensor (3, {height}, {width}), as the picture")
        return result.reshape(1, -1, height, width)


@dataclass(frozen=True)
class OwnObjective:
    """A function (activations, channel) of the user's, for a visualization to climb instead of the channel's mean.

    The function gets the activations of any layer for one picture, (1, C, H, W), (1, C, T) or (1, C), and the channel's
    index. It returns one number, as a tensor.
    """

    name: str
    function: Callable[..., Any]

    def __call__(self, activations: Tensor, channel: int) -> Tensor:
        """The number, a scalar. SpadeError, in one line, where the function raises or returns something else."""
        with _report_errors(self.name, self.function, SpadeError):
            result = self.function(activations, channel)
        if not isinstance(result, Tensor) or result.numel() != 1 or result.is_complex():
            found = f"a tensor {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise SpadeError(f"{self.name} returned {found}; return a tensor with one value, which is to become large")
        return result.reshape(())


def own_method(function: str | Callable[..., Any], asked: str = "interpreter.methods", /, **settings: Any) -> OwnMethod:
    """A function, or 'package.module:function', as a saliency method, with its settings.

    UserError where it is not there, or cannot be called with (network, image, target).
    """
    return OwnMethod(*_find_function(function, asked, ("network", "image", "target"), settings), settings)


def own_objective(function: str | Callable[..., Any], asked: str = "interpreter.objective") -> OwnObjective:
    """A function, or 'package.module:function', as an objective; UserError as in `own_method`."""
    if isinstance(function, OwnObjective):
        return function
    return OwnObjective(*_find_function(function, asked, ("activations", "channel"), {}))


def _find_function(
    function: str | Callable[..., Any], asked: str, arguments: tuple[str, ...], settings: Mapping[str, Any]
) -> tuple[str, Callable[..., Any]]:
    """A function's name, and the function."""
    label = function if isinstance(function, str) else getattr(function, "__qualname__", repr(function))
    takes = ", ".join(arguments)
    if isinstance(function, str):
        example = f"mypackage.mymodule:my{asked.rpartition('.')[2].removesuffix('s')}"
        function = find_factory(function, f"{asked}: {function}", f"a function ({takes})", example)
    name = getattr(function, "__name__", "")
    if not callable(function) or not name.isidentifier():
        raise UserError(f"{asked}: {label} is not a function with a name; write def myfunction({takes})")
    try:
        inspect.signature(function).bind(*arguments, **settings)
    except TypeError as error:
        raise UserError(
            f"{asked}: {label} cannot be called with ({takes}): {error}; write def {name}({takes}), and a default "
            "for each setting"
        ) from None
    except ValueError:  # a function written in C does not say what it takes
        pass
    return name, function


@contextmanager
def _report_errors(name: str, function: Callable[..., Any], kind: type[SpadeError]) -> Iterator[None]:
    """Turn what the user's function raises into one line with the place in its file."""
    try:
        yield
    except (SpadeError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        code = getattr(inspect.unwrap(function), "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        in_file = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
        where = f" in {Path(in_file[-1].filename).name}, line {in_file[-1].lineno}" if in_file else ""
        raise kind(f"{name} raised {type(error).__name__}{where}: {' '.join(str(error).split())}") from error
