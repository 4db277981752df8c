"""Error bars: the bootstrap by its definition, its cover on known data, pairs, and the limits."""

import numpy as np
import pytest

from spade_cli.evaluation.measures.intervals import compare, estimate


def test_the_interval_is_the_percentiles_of_resampled_means() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = estimate(values.tolist(), seed=3, resamples=4000)
    rng = np.random.default_rng(3)
    means = sorted(np.mean([values[i] for i in row]) for row in rng.integers(30, size=(4000, 30)))
    assert (found.n, found.mean) == (30, pytest.approx(values.mean()))
    assert (found.low, found.high) == pytest.approx((means[100], means[3900]), abs=2e-3)
    assert estimate(values.tolist(), seed=3, resamples=4000) == found != estimate(values.tolist(), 4, 4000)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        found = estimate(rng.normal(size=50).tolist(), resamples=500)
        hits += found.low <= 0 <= found.high
    assert 180 <= hits <= 198  # 95 % of 200, with its own error and the bootstrap's small optimism


def test_long_lists_are_resampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).normal(size=40).tolist()
    whole = estimate(values, resamples=1000)
    monkeypatch.setattr("spade_cli.evaluation.measures.intervals.AT_ONCE", 4000)
    parts = estimate(values, resamples=1000)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=1e-12)  # the same images are drawn


def test_pairs_take_out_what_the_images_share() -> None:
    dense = np.random.default_rng(0).normal(scale=100, size=20)
    better = compare((dense + 1 + 0.01 * np.arange(20)).tolist(), dense.tolist(), larger_is_better=True)
    assert better.difference.low > 1 and better.difference.high < 1.2 and better.better == 1
    assert compare((dense + 1).tolist(), dense.tolist(), larger_is_better=False).better == 0
    same = compare([1.0, 2.0], [1.0, 2.0], larger_is_better=True)
    assert same.better == 0 and same.difference.mean == same.difference.low == same.difference.high == 0


def test_limits() -> None:
    one = estimate([0.5])
    assert (one.n, one.mean, one.low, one.high) == (1, 0.5, None, None)
    equal = estimate([0.1] * 7)  # whose mean is no multiple of 0.1 in floating point
    assert equal.n == 7 and equal.low == equal.mean == equal.high == pytest.approx(0.1)
    for bad in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="have no mean"):
            estimate(bad)
    with pytest.raises(ValueError, match="pairs"):
        compare([1.0], [1.0, 2.0], larger_is_better=True)
