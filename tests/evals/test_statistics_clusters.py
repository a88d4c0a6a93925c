"""Clustered standard errors: against other programs, the textbook's special case, and what must not change them."""

from __future__ import annotations

import math
import statistics
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from evals.statistics import clustered, clustered_proportion

ITEMS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=40)


def test_agrees_with_statsmodels() -> None:
    """From statsmodels 0.15.0: OLS on a constant, cov_type="cluster", use_t=True."""
    values = [0.637, 0.27, 0.041, 0.017, 0.813, 0.913, 0.607, 0.729, 0.544, 0.935, 0.816, 0.003]
    estimate = clustered(values, [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4])
    assert estimate.value == pytest.approx(0.52708333, abs=1e-8)
    assert estimate.stderr == pytest.approx(0.12077099, abs=1e-8)
    assert estimate.low == pytest.approx(0.19176932, abs=1e-7)
    assert estimate.high == pytest.approx(0.86239735, abs=1e-7)
    assert (estimate.n, estimate.num_clusters) == (12, 5)


def test_by_hand() -> None:
    """Mean 1/2; sums of deviations 1, -1 and 0; sqrt(3 / 2 * 2) / 6."""
    estimate = clustered([1, 1, 0, 0, 1, 0], ["a", "a", "b", "b", "c", "c"])
    assert estimate.value == 0.5
    assert estimate.stderr == pytest.approx(math.sqrt(3) / 6, abs=1e-15)
    # Student's quantile at 0.975 with 2 degrees of freedom, from any table
    assert estimate.high == pytest.approx(0.5 + 4.302652730 * math.sqrt(3) / 6, abs=1e-8)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1, width=16), min_size=2, max_size=30).filter(lambda values: len(set(values)) > 1))
def test_items_of_their_own_give_the_classic_interval(values: list[float]) -> None:
    estimate = clustered(values, range(len(values)))
    interval = ttest_1samp(values, 0).confidence_interval()
    assert estimate.stderr == pytest.approx(statistics.stdev(values) / math.sqrt(len(values)), rel=1e-9)
    assert estimate.low == pytest.approx(interval.low, rel=1e-6, abs=1e-9)
    assert estimate.high == pytest.approx(interval.high, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(ITEMS, st.randoms())
def test_order_and_names_do_not_matter(items: list[tuple[int, int]], random: object) -> None:
    shuffled = sorted(items, key=lambda _: random.random())  # type: ignore[attr-defined]
    ours = clustered([value for value, _ in items], [cluster for _, cluster in items])
    other = clustered([value for value, _ in shuffled], [f"subject {cluster}" for _, cluster in shuffled])
    assert astuple(ours) == pytest.approx(astuple(other), nan_ok=True)


def test_copies_of_items_add_no_certainty() -> None:
    values, clusters = [1, 0, 1, 1, 0, 0, 1], list(range(7))
    once, thrice = clustered(values, clusters), clustered(values * 3, clusters * 3)
    assert thrice.stderr == pytest.approx(once.stderr)
    assert thrice.n == 21
    assert clustered(values * 3, range(21)).stderr < once.stderr


def test_undefined_is_nan() -> None:
    nothing = clustered([], [])
    assert (nothing.n, nothing.num_clusters) == (0, 0)
    assert all(map(math.isnan, (nothing.value, nothing.low, nothing.high, nothing.stderr)))
    single = clustered([1, 0, 1], ["a", "a", "a"])
    assert single.value == pytest.approx(2 / 3)
    assert all(map(math.isnan, (single.low, single.high, single.stderr)))


@pytest.mark.parametrize("values", [[1, 1, 1, 1], [0.1] * 4, [1, 0, 0, 1]])
def test_no_variation_gives_no_interval(values: list[float]) -> None:
    estimate = clustered(values, ["a", "a", "b", "b"])
    assert estimate.stderr == 0
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_refuses_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        clustered([1, 0], ["a"])
    with pytest.raises(ValueError, match="not finite"):
        clustered([1, math.nan], ["a", "b"])


def test_proportion_stays_within_0_and_1() -> None:
    score = clustered_proportion([True, True, True, False], ["a", "a", "a", "b"])
    assert (score.low, score.high, score.value, score.n) == (0, 1, 0.75, 4)
    assert math.isnan(clustered_proportion([True, False], ["a", "a"]).low)
    assert not clustered_proportion([], []).contains(0.5)
