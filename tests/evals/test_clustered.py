"""Means of tokens in texts: against scipy's t interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evals.clustered import clustered_mean, student_t


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 101, 1000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_student_t_is_scipys(degrees: int, confidence: float) -> None:
    assert student_t(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-9)


def test_clusters_of_one_size_give_the_interval_of_their_means() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, size=(7, 20)) + np.arange(7)[:, None]
    order = np.random.default_rng(1).permutation(140)  # clusters need not stand together
    found = clustered_mean(values.ravel()[order], np.repeat(np.arange(7) * 10, 20)[order])
    means = values.mean(axis=1)
    low, high = stats.t.interval(0.95, 6, loc=means.mean(), scale=stats.sem(means))
    assert (found.value, found.low, found.high) == pytest.approx((means.mean(), low, high))
    assert (found.n, found.num_clusters) == (140, 7)


def test_tokens_of_one_text_are_no_independent_evidence() -> None:
    """The same value 100 times in each of three texts: as uncertain as three values."""
    found = clustered_mean(np.repeat([0.0, 1.0, 2.0], 100), np.repeat([0, 1, 2], 100))
    low, high = stats.t.interval(0.95, 2, loc=1, scale=stats.sem([0, 1, 2]))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_undefined_is_nan() -> None:
    nothing = clustered_mean(np.array([]), np.array([], dtype=np.int64))
    assert math.isnan(nothing.value)
    assert (nothing.n, nothing.num_clusters) == (0, 0)
    one = clustered_mean(np.array([1.0, 3.0]), np.array([5, 5]))
    assert one.value == 2
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert one.num_clusters == 1
