"""Smoothing: the mean of a method's maps over noisy copies of the image, and over several networks.

The gradient of a deep network changes from pixel to pixel with changes of the image that nobody sees. The mean over
copies with Gaussian noise removes that (SmoothGrad, Smilkov et al. 2017). Copies take turns on the networks, so the
mean over several traces costs no more than the mean over copies alone. docs/evaluation.md has the figures.

n: copies; H, W: the image's size in pixels.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spade_cli.errors import UserError
from spade_cli.interpretation.explanation import (
    Explanation,
    SaliencyMethod,
    check_counts,
    check_one_image,
    compare_sums,
    make_explanation,
    warn_of_checks,
)
from spade_cli.interpretation.rewrite.explainable import Explainable
from spade_cli.interpretation.saliency.perturbation import weigh_segments
from spade_cli.interpretation.saliency.turns import take_turns

# A gradient's sign is that of a change of colour: for and against alternate from pixel to pixel and channel to channel,
# and only its size says that a pixel matters. Relevance (LRP) and what covers whole regions (LIME, occlusion, RISE) are
# sums of contributions: there a negative value speaks against the class. Decided from this, not from any result.
SIGNED = frozenset({"lrp", "lime", "occlusion", "rise"})
# They cover parts of the image. A covering is a far larger change than noise, so there is nothing to smooth; what
# several networks say is averaged over the coverings.
COVERING = frozenset({"occlusion", "rise", "score_cam"})
# Methods that ask about many points or coverings: the setting that counts them, and the fewest of one map. Copies share
# them. LIME is among these, since its coverings follow the edges of each copy.
POINTS = {"integrated_gradients": ("steps", 1), "gradient_shap": ("samples", 1), "lime": ("samples", 2)}
# Methods that leave out what speaks against the class, and the same with it. It is left out of the mean: if each copy's
# map left it out, the positive half of the copies' noise would stay.
POSITIVE = {"lime": weigh_segments}
PIXELS = 2 * 224 * 224  # of the copies in one pass: more gain little, and four on ResNet50 took a gigabyte more
MAX_SEED = 2**32


@dataclass(frozen=True)
class SmoothedMethod:
    """A saliency method as the mean over noisy copies of the image, which take turns on the networks.

    method: with its settings bound. samples: copies. noise: their standard deviation, as a share of the range of the
    image (its largest normalised value minus its smallest). With samples=1 or noise=0 each network explains the image
    as it is. Every network gets one copy at least, so there may be more copies than `samples`.
    """

    method: SaliencyMethod
    samples: int = 1
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts("smoothing", samples=self.samples)
        if not 0 <= self.noise < math.inf:
            raise UserError(f"smoothing.noise={self.noise} is no standard deviation; give 0 or more")

    @property
    def keywords(self) -> Mapping[str, Any]:
        """The method's settings that are bound."""
        return getattr(self.method, "keywords", {})

    @property
    def function(self) -> Callable[..., Any]:
        """The method without its settings."""
        return self.method.func if isinstance(self.method, partial) else self.method

    @property
    def name(self) -> str:
        """The method's name."""
        return getattr(self.method, "name", None) or self.function.__name__

    def __call__(self, networks: Sequence[Explainable], image: Tensor, target: int) -> Explanation:
        """The mean map of an image (1, 3, H, W), normalised; the same noise for the same seed, whatever the networks.

        Errors: as the method's, on the first network or copy that it cannot explain.
        """
        check_one_image(image)
        if self.name in COVERING:
            return self.method(take_turns(networks, image), image, target)
        smooth = self.samples > 1 and self.noise > 0
        count = max(self.samples, len(networks)) if smooth else len(networks)
        copies = self._draw_copies(image, count) if smooth else image.expand(count, -1, -1, -1)  # (n, 3, H, W)
        explained = []
        for place, network in enumerate(networks):
            numbers = range(place, count, len(networks))
            explained += self._explain_copies(network, copies[list(numbers)], numbers, count, target)
        made = average_explanations(self.name, explained)
        if self.name in POSITIVE:
            made = make_explanation(self.name, made.map.clamp(min=0)[None])
        return replace(made, samples=count, noise=self.noise) if smooth else made

    def with_plain(self, networks: Sequence[Explainable], image: Tensor, target: int) -> Explanation:
        """The mean map, and beside it the first network's map of the image without noise, where that costs little.

        It does where a method explains several images in one pass: the plain map is one image more.
        """
        made = self(networks, image, target)
        if made.samples == 1 or not hasattr(self.function, "of_images"):
            return made
        return replace(made, plain=replace(self, samples=1)(networks[:1], image, target).map)

    def _draw_copies(self, image: Tensor, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)  # the CPU's: the same noise on every device
        drawn = torch.randn(count, *image.shape[1:], generator=generator).to(image)  # (n, 3, H, W)
        return image + self.noise * (image.max() - image.min()) * drawn

    def _explain_copies(
        self, network: Explainable, copies: Tensor, numbers: Sequence[int], count: int, target: int
    ) -> list[Explanation]:
        """Some of `count` copies on one network: several in one pass where the method can."""
        of_images = getattr(self.function, "of_images", None)
        # a network that cannot be rewritten may mix the images of a batch
        if of_images is not None and network.reason is None:
            parts = copies.split(max(1, PIXELS // copies[0, 0].numel()))
            return [one for part in parts for one in of_images(network, part, target, **self.keywords)]
        method = partial(POSITIVE[self.name], **self.keywords) if self.name in POSITIVE else self.method
        return [
            partial(method, **self._share_points(number, count))(network, copy[None], target)
            for number, copy in zip(numbers, copies, strict=True)
        ]

    def _share_points(self, number: int, count: int) -> dict[str, Any]:
        """The settings of copy `number` of `count`: its part of the method's points, drawn by a seed of its own."""
        if self.name not in POINTS or count == 1:
            return {}
        (key, fewest), defaults = POINTS[self.name], inspect.signature(self.function).parameters
        settings = {key: max(fewest, math.ceil(self.keywords.get(key, defaults[key].default) / count))}
        if "seed" in defaults:
            settings["seed"] = (self.keywords.get("seed", 0) + number) % MAX_SEED
        return settings


def average_explanations(method: str, explained: Sequence[Explanation]) -> Explanation:
    """The mean of a method's maps, with the mean of their checks, and each warning once.

    Where signs mean nothing, a value is as large as the maps' values are on average, and has the sign of their mean.
    """
    if len(explained) == 1:
        return explained[0]
    maps = torch.stack([one.map for one in explained])  # (n, 3, H, W)
    mean = maps.mean(0)
    names = dict.fromkeys(name for one in explained for name in one.checks)
    listed = {name: [one.checks[name] for one in explained if name in one.checks] for name in names}
    checks = {name: sum(values) / len(values) for name, values in listed.items()}
    if "convergence_delta" in checks:
        (of_mean,) = compare_sums(mean[None], torch.tensor([checks["convergence_delta"]]))
        checks |= of_mean
    own = [[line for line in one.warnings if line not in warn_of_checks(method, one.checks)] for one in explained]
    shown = mean if method in SIGNED else maps.abs().mean(0).copysign(mean)
    return Explanation(shown, checks, (*merge_warnings(own), *warn_of_checks(method, checks)))


def merge_warnings(warnings: Sequence[Sequence[str]]) -> list[str]:
    """The warnings of several maps, those that differ in their figures only once, with the count of the maps.

    >>> merge_warnings([["the output is 3"], ["the output is 4"], []])
    ['the output is 3 (the first of 2 such among the 3 maps that were averaged)']
    """
    alike: dict[str, list[str]] = {}
    for line in (line for of_one in warnings for line in of_one):
        alike.setdefault(re.sub(r"-?\d[\d.e+-]*", "#", line), []).append(line)
    merged = []
    for lines in alike.values():
        same, among = len(set(lines)) == 1, f"among the {len(warnings)} maps that were averaged"
        if same and len(lines) == len(warnings):
            merged.append(lines[0])
        else:
            which = f"{len(lines)} such" if same else f"the first of {len(lines)} such"
            merged.append(f"{lines[0]} ({which} {among})")
    return merged
