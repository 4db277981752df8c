"""What a saliency method is and returns, and the checks that every map passes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError, UserError, error_line
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.networks.modes_and_seeds import ask_network, seed_generators

# Sundararajan et al. 2017 (Integrated Gradients), section 5: steps are enough once the sum is right to 5 %.
INTEGRATION_ERROR = 0.05  # of the difference in output
# DeepLift is exact where every layer has a rule: rounding leaves 1e-4 at most, a layer without a rule 0.1 and more.
DEEPLIFT_ERROR = 0.01  # of the difference in output
# LRP's rules conserve relevance, but for rounding and for units that are positive through their bias alone.
CONSERVATION_ERROR = 0.05  # of the output
# What torch says (seen in 2.14) where no gradient of the answer reaches the image.
NO_GRADIENT = ("does not require grad", "doesn't require gradient", "not have been used in the graph")


class CannotExplain(SpadeError):  # noqa: N818
    """A method cannot explain this network; one line with the reason."""


@dataclass(frozen=True)
class Explanation:
    """A saliency map, and how far it can be trusted.

    map: raw attribution, float32 on the CPU, (3, H, W); a method with one channel repeats it three times.
    checks: sums that show whether the map is right, by name.
    warnings: what a reader of the map has to know, one line each.
    """

    map: Tensor
    checks: dict[str, float]
    warnings: tuple[str, ...]


class SaliencyMethod(Protocol):
    """A saliency method with its settings bound."""

    def __call__(self, network: Explainable, image: Tensor, target: int, /) -> Explanation:
        """The map of an image (1, 3, H, W), normalised, for a class; CannotExplain where there is none."""
        ...


def prepare_image(network: Explainable, image: Tensor, target: int) -> Tensor:
    """A copy of the image (1, 3, H, W) on the network's device. UserError where image or target do not fit."""
    if image.dim() != 4 or image.shape[:2] != (1, 3):
        raise UserError(f"an explanation takes one image (1, 3, H, W); got {tuple(image.shape)}")
    if not 0 <= target < network.classes:
        raise UserError(f"class {target} asked for; this network has classes 0 to {network.classes - 1}")
    return image.detach().clone().to(device_of(network.model))


def require_rewrite(network: Explainable) -> None:
    """CannotExplain for a network that could not be rewritten: the method hooks or replaces its modules."""
    if network.reason is not None:
        raise CannotExplain(f"it needs a rewritten copy of the network, and there is none: {network.reason}")


def check_counts(method: str, **settings: int) -> None:
    """UserError where a setting is less than 1."""
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"{method}.{name}={value} asked for; give 1 or more")


def make_explanation(
    method: str, attribution: Tensor, checks: dict[str, float] | None = None, notes: tuple[str, ...] = ()
) -> Explanation:
    """Attribution (1, 3 or 1, H, W) -> Explanation. CannotExplain where a value is not finite."""
    saliency = attribution.detach().to("cpu", torch.float32)[0]  # (3 or 1, H, W)
    saliency = saliency.expand(3, -1, -1).contiguous()  # (3, H, W)
    if not torch.isfinite(saliency).all():
        raise CannotExplain(f"{method} gave values that are not finite")
    if saliency.min() == saliency.max():
        notes = (*notes, f"{method}: the map has the same value everywhere ({saliency.min().item():.3g})")
    return Explanation(saliency, checks or {}, notes)


def check_completeness(
    method: str, delta: float, difference: float, limit: float
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Checks and warnings of a map that should sum to output(image) - output(baseline) = `difference`.

    delta: by how much the sum is off; limit: the largest delta without a warning, relative to the difference.
    """
    relative = abs(delta) / max(abs(difference), torch.finfo(torch.float32).tiny)
    checks = {"convergence_delta": delta, "relative_delta": relative}
    if relative <= limit:
        return checks, ()
    line = f"{method}: the map's sum is off by {relative:.1%} of what it explains (limit {limit:.0%})"
    return checks, (line,)


@torch.no_grad()
def find_output_difference(model: nn.Module, image: Tensor, target: int) -> float:
    """Output of the target on the image, minus that on the zero baseline."""
    return float(ask_network(model, image)[0, target] - ask_network(model, torch.zeros_like(image))[0, target])


@contextmanager
def attribution_pass(model: nn.Module) -> Iterator[None]:
    """Around the passes of a method: hooks are removed afterwards, captum's notices of its hooks are hidden.

    A network that draws random numbers draws the same ones each time, so that one command always gives one map.

    Errors: CannotExplain where the network fails: it writes into what its own gradient needs, or it takes one image at
    a time. Errors that are not torch's or captum's pass, and so does running out of memory.
    """
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks_before = [(getattr(module, name), set(getattr(module, name))) for module in model.modules() for name in names]
    try:
        with warnings.catch_warnings(), seed_generators(0, device_of(model)):
            # the words of captum 0.9; if they change, they are only printed
            warnings.filterwarnings("ignore", r"\s*Setting (forward, )?backward hooks", UserWarning)
            warnings.filterwarnings("ignore", r"Input Tensor \d+ (did not already|has a dtype)", UserWarning)
            yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:  # torch's, and captum's about its arguments
        if any(words in str(error) for words in NO_GRADIENT):
            raise CannotExplain(
                "no gradient of the answer reaches the picture (detach() or no_grad() in its forward?)"
            ) from error
        raise CannotExplain(f"the network fails under this method: {error_line(error)}") from error
    finally:
        for hooks, before in hooks_before:
            for key in set(hooks) - before:
                del hooks[key]
