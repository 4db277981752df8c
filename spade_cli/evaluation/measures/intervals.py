"""From one value an image to a figure with an error bar: means, bootstrap intervals, paired differences."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from scipy import stats

RESAMPLES = 10_000  # the ends of a 95 % interval then wobble by a hundredth of its width
LEVEL = 0.95
Key = TypeVar("Key", bound=Hashable)  # of an image, or of a rater and an image
AT_ONCE = 2**24  # resampled values held at a time: 128 MB


@dataclass(frozen=True)
class Estimate:
    """A mean over n images and its 95 % bootstrap interval; no interval for one image."""

    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """Condition less dense, image by image; better: share of the images that got strictly better."""

    difference: Estimate
    better: float


@dataclass(frozen=True)
class Cell:
    """A cell of a table: one measure of one condition, and how it compares with dense; None where it does not."""

    value: Estimate
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """{n, mean, low, high}, and where there is a comparison {difference: {n, mean, low, high}, better}."""
        return asdict(self.value) | (asdict(self.comparison) if self.comparison else {})


def estimate(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean and its percentile bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    The same seed and number of values resample the same images. Both ends are the mean where all values are equal.
    Raises ValueError for no values or one not finite.
    """
    data = np.asarray(values, np.float64)
    if not data.size or not np.isfinite(data).all():
        raise ValueError(f"{data.size} values, {int((~np.isfinite(data)).sum())} of them not finite, have no mean")
    mean = float(data.mean())
    if data.size == 1:
        return Estimate(1, mean, None, None)
    if (data == data[0]).all():
        return Estimate(data.size, mean, mean, mean)
    found = stats.bootstrap(
        (data,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, AT_ONCE // data.size),
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(data.size, mean, float(found.low), float(found.high))


def compare(values: Sequence[float], dense: Sequence[float], larger_is_better: bool, seed: int = 0) -> Comparison:
    """Two conditions on the same images, in the same order: pairs remove what makes one image harder than another."""
    if len(values) != len(dense):
        raise ValueError(f"{len(values)} values against {len(dense)}: pairs are needed")
    difference = np.asarray(values, np.float64) - np.asarray(dense, np.float64)
    gained = difference > 0 if larger_is_better else difference < 0
    return Comparison(estimate(difference.tolist(), seed), float(gained.mean()))


def fill_cell(
    values: Mapping[Key, float], dense: Mapping[Key, float], larger_is_better: bool | None, seed: int
) -> Cell:
    """One condition's cell, compared with dense on the images that both have.

    values, dense: by image, or by rater and image; dense is empty where nothing is compared with it.
    """
    own = estimate(list(values.values()), seed)
    shared = [image for image in values if image in dense]
    if not shared or larger_is_better is None:
        return Cell(own)
    pairs = ([values[image] for image in shared], [dense[image] for image in shared])
    return Cell(own, compare(*pairs, larger_is_better, seed))
