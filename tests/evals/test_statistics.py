"""Intervals against scipy's."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binomtest

from evals.statistics import wilson


@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (6, 40), (441, 1766), (1, 2), (999, 1000)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_wilson_agrees_with_scipy(count: int, n: int, confidence: float) -> None:
    ours = wilson(count, n, confidence=confidence)
    theirs = binomtest(count, n).proportion_ci(confidence_level=confidence, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)
    assert ours.low <= ours.value == count / n <= ours.high


def test_nothing_scored_is_undefined_not_zero() -> None:
    nothing = wilson(0, 0)
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.high)
    assert nothing.n == 0
    assert not nothing.contains(0.25)


@pytest.mark.parametrize(("count", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_counts_are_refused(count: int, n: int) -> None:
    with pytest.raises(ValueError, match="it must be from 0 to n"):
        wilson(count, n)
