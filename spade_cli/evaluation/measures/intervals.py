"""From one value an image to a figure with an error bar: means, bootstrap intervals, paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000  # the ends of a 95 % interval then wobble by a hundredth of its width
LEVEL = 0.95
AT_ONCE = 2**24  # counts of resampled images held at a time: 64 MB


@dataclass(frozen=True)
class Estimate:
    """A mean over n images and its 95 % bootstrap interval; no interval where one image is all there is."""

    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """Condition less dense, image by image; better: share of the images that got strictly better."""

    difference: Estimate
    better: float


def estimate(values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean and its percentile bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    The same seed and number of values resample the same images. Raises ValueError for no values or one not finite.
    """
    data = np.asarray(values, np.float64)
    if not data.size or not np.isfinite(data).all():
        raise ValueError(f"{data.size} values, {int((~np.isfinite(data)).sum())} of them not finite, have no mean")
    if data.size == 1:
        return Estimate(1, float(data[0]), None, None)
    means = _resampled_means(data, seed, resamples)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(data.size, float(data.mean()), float(low), float(high))


def compare(values: Sequence[float], dense: Sequence[float], larger_is_better: bool, seed: int = 0) -> Comparison:
    """Two conditions on the same images, in the same order: pairing takes the images' own difficulty out."""
    if len(values) != len(dense):
        raise ValueError(f"{len(values)} values against {len(dense)}: pairs are needed")
    difference = np.asarray(values, np.float64) - np.asarray(dense, np.float64)
    gained = difference > 0 if larger_is_better else difference < 0
    return Comparison(estimate(difference.tolist(), seed), float(gained.mean()))


def _resampled_means(data: NDArray[np.float64], seed: int, resamples: int) -> NDArray[np.float64]:
    """Means of `resamples` draws of len(data) images with replacement."""
    step = max(1, AT_ONCE // data.size)
    parts = [_counts(data.size, seed, start, min(step, resamples - start)) for start in range(0, resamples, step)]
    return np.concatenate([part @ data for part in parts]) / data.size


@lru_cache(8)  # one table asks for the same counts hundreds of times
def _counts(images: int, seed: int, start: int, resamples: int) -> NDArray[np.float32]:
    """How often each image is drawn in each resample: (resamples, images)."""
    rng = np.random.default_rng((seed, images, start))
    drawn = rng.integers(images, size=(resamples, images))
    counts = np.zeros((resamples, images), np.float32)
    np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1)
    return counts
