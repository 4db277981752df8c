"""What a saliency method is and returns, and the checks that every map passes."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from spade_cli.devices import device_of
from spade_cli.errors import SpadeError, UserError, error_line
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.networks.modes_and_seeds import seed_generators

# The largest error of a map's sum without a warning, as a share of the difference in output that it explains.
SUM_ERRORS = {
    # exact where every layer has a rule: rounding leaves 1e-4 at most, a layer without a rule 0.1 and more
    "deeplift": 0.01,
    # Sundararajan et al. 2017, section 5: steps are enough once the sum is right to 5 %
    "integrated_gradients": 0.05,
}
CONSERVATION_ERROR = 0.05  # of the output: LRP's rules conserve relevance, but for rounding
# Of the output: LRP's map shows a part that elsewhere could be lost without a warning.
FOLLOWED_SHARE = 0.05
TOKEN_SHARE = 0.05  # of the output: with less there is no warning about the class token
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
    samples, noise: the map is the mean over so many copies of the image with so much noise, as a share of its range.
    plain: the map of the image without noise beside that mean, where it was asked for.
    """

    map: Tensor
    checks: dict[str, float]
    warnings: tuple[str, ...]
    samples: int = 1
    noise: float = 0.0
    plain: Tensor | None = None


class SaliencyMethod(Protocol):
    """A saliency method with its settings bound."""

    def __call__(self, network: Explainable, image: Tensor, target: int, /) -> Explanation:
        """The map of an image (1, 3, H, W), normalised, for a class; CannotExplain where there is none."""
        ...


def for_one_image(of_images: Callable[..., list[Explanation]]) -> Callable[..., Explanation]:
    """A method of several images (n, 3, H, W) in one pass -> the method of one; the former stays as its `of_images`."""

    @wraps(of_images)
    def method(network: Explainable, image: Tensor, target: int, **settings: Any) -> Explanation:
        check_one_image(image)
        (explanation,) = of_images(network, image, target, **settings)
        return explanation

    method.of_images = of_images  # type: ignore[attr-defined]
    return method


def prepare_image(network: Explainable, image: Tensor, target: int) -> Tensor:
    """A copy of the image (1, 3, H, W) on the network's device. UserError where image or target do not fit."""
    check_one_image(image)
    return prepare_images(network, image, target)


def prepare_images(network: Explainable, images: Tensor, target: int) -> Tensor:
    """A copy of the images (n, 3, H, W) on the network's device. UserError for a target that is no class."""
    if not 0 <= target < network.classes:
        raise UserError(f"class {target} asked for; this network has classes 0 to {network.classes - 1}")
    return images.detach().clone().to(device_of(network.model))


def check_one_image(image: Tensor) -> None:
    """UserError where it is not one image (1, 3, H, W)."""
    if image.dim() != 4 or image.shape[:2] != (1, 3):
        raise UserError(f"an explanation takes one image (1, 3, H, W); got {tuple(image.shape)}")


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
    method: str, attribution: Tensor, checks: Mapping[str, float] | None = None, notes: tuple[str, ...] = ()
) -> Explanation:
    """Attribution (1, 3 or 1, H, W) -> Explanation. CannotExplain where a value is not finite."""
    saliency = attribution.detach().to("cpu", torch.float32)[0]  # (3 or 1, H, W)
    saliency = saliency.expand(3, -1, -1).contiguous()  # (3, H, W)
    if not torch.isfinite(saliency).all():
        raise CannotExplain(f"{method} gave values that are not finite")
    if saliency.min() == saliency.max():
        notes = (*notes, f"{method}: the map has the same value everywhere ({saliency.min().item():.3g})")
    checks = dict(checks or {})
    return Explanation(saliency, checks, (*notes, *warn_of_checks(method, checks)))


def make_explanations(
    method: str, attributions: Tensor, checks: Sequence[Mapping[str, float]] = (), notes: tuple[str, ...] = ()
) -> list[Explanation]:
    """The same of several attributions (n, 3 or 1, H, W), with the checks of each."""
    each = checks or [{}] * len(attributions)
    return [make_explanation(method, one[None], its, notes) for one, its in zip(attributions, each, strict=True)]


def compare_sums(attributions: Tensor, deltas: Tensor) -> list[dict[str, float]]:
    """The checks of maps (n, 3, H, W) that should sum to output(image) - output(baseline); deltas: by how much not."""
    sums, deltas = attributions.detach().cpu().double().flatten(1).sum(1), deltas.detach().cpu().double()  # (n,)
    differences = (sums - deltas).abs().clamp(min=torch.finfo(torch.float32).tiny)
    relative = deltas.abs() / differences
    return [
        {"convergence_delta": delta, "relative_delta": share}
        for delta, share in zip(deltas.tolist(), relative.tolist(), strict=True)
    ]


def warn_of_checks(method: str, checks: Mapping[str, float]) -> tuple[str, ...]:
    """What the checks of a map say to its reader: a sum that is wrong, or relevance that is not the picture's."""
    lines = []
    limit = SUM_ERRORS.get(method)
    if limit is not None and not checks["relative_delta"] <= limit:
        off = f"{checks['relative_delta']:.1%} of what it explains (limit {limit:.0%})"
        lines.append(f"{method}: the map's sum is off by {off}")
    if method == "lrp" and not abs(checks["conservation"] - 1) <= CONSERVATION_ERROR:
        sums = f"{checks['conservation']:.1%} of the output (100 % expected)"
        lines.append(f"lrp: relevance sums to {sums}")
    if method == "lrp" and checks.get("followed", 1.0) < FOLLOWED_SHARE:
        share = f"{checks['followed']:.1%} of the output"
        lines.append(
            f"lrp: only {share} can be followed to the picture; the rest comes from biases and is spread over it"
        )
    if method == "lrp" and checks.get("class_token", 0.0) > TOKEN_SHARE:
        share = f"{checks['class_token']:.1%} of the output"
        lines.append(f"lrp: {share} is the class token's own doing, whatever the picture shows")
    return tuple(lines)


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
