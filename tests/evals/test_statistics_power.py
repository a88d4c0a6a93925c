"""What can be detected, against the exact test's own power, and the claim about HumanEval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evals.statistics import detectable_difference, expected_discordance


def exact_power(n: int, share: float, difference: float) -> float:
    """The probability that McNemar's exact test rejects at 0.05, by enumeration."""
    power = 0.0
    for discordant in range(1, n + 1):
        ways = np.arange(discordant + 1)
        p_values = 2 * np.minimum(binom.cdf(ways, discordant, 0.5), binom.sf(ways - 1, discordant, 0.5))
        rejected = binom.pmf(ways, discordant, 0.5 + difference / (2 * share))[p_values <= 0.05].sum()
        power += float(binom.pmf(discordant, n, share) * rejected)
    return power


@pytest.mark.parametrize("share", [0.1, 0.14, 0.25, 0.4])
def test_exact_test_finds_it_with_about_the_power_asked_for(share: float) -> None:
    difference = detectable_difference(164, share)
    assert 0.76 < exact_power(164, share, difference) < 0.8
    assert exact_power(164, share, difference + 0.005) > 0.8


@pytest.mark.parametrize(("n", "share"), [(164, 0.134), (1267, 0.25), (14042, 0.4), (300, 0.1)])
def test_solves_the_formula(n: int, share: float) -> None:
    """Connor 1987, the other way round: the number of pairs at which the difference is found."""
    difference = detectable_difference(n, share)
    z_alpha, z_power = 1.959963984540054, 0.8416212335729143
    needed = (z_alpha * math.sqrt(share) + z_power * math.sqrt(share - difference**2)) ** 2 / difference**2
    assert needed == pytest.approx(n)


def test_humaneval_cannot_separate_models_closer_than_about_8_points() -> None:
    assert round(100 * detectable_difference(164, expected_discordance(0.16, 0.16))) == 8
    assert expected_discordance(0.16, 0.16) == pytest.approx(0.134, abs=0.001)
    assert round(100 * detectable_difference(164)) == 11
    assert round(100 * detectable_difference(164, 0), 1) == 4.7


@settings(deadline=None)
@given(st.integers(4, 20_000), st.floats(0, 1), st.floats(0, 1))
def test_falls_with_n_and_rises_with_discordance(n: int, share: float, other: float) -> None:
    low, high = sorted((share, other))
    assert detectable_difference(n, low) <= detectable_difference(n, high)
    assert detectable_difference(n + 1, share) < detectable_difference(n, share) <= 1


def test_too_few_items_detect_nothing() -> None:
    assert all(math.isnan(detectable_difference(n)) for n in range(4))
    assert 0.9 < detectable_difference(4) <= 1


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1))
def test_expected_discordance_is_possible(a: float, b: float, correlation: float) -> None:
    share = expected_discordance(a, b, correlation=correlation)
    assert abs(a - b) - 1e-12 <= share <= min(a + b, 2 - a - b) + 1e-12
    assert share == pytest.approx(expected_discordance(b, a, correlation=correlation))


def test_expected_discordance_of_independent_models() -> None:
    assert expected_discordance(0.2, 0.3, correlation=0) == pytest.approx(0.2 * 0.7 + 0.3 * 0.8)
    assert expected_discordance(0.5, 0.5) == pytest.approx(0.25)
    assert expected_discordance(0.5, 0.5, correlation=1) == 0


@pytest.mark.parametrize(
    ("arguments", "options"),
    [((-1,), {}), ((9, 1.5), {}), ((9, math.nan), {}), ((9,), {"power": 0.3}), ((9,), {"alpha": 0})],
)
def test_refuses_what_has_no_meaning(arguments: tuple[float, ...], options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        detectable_difference(*arguments, **options)  # type: ignore[arg-type]


def test_refuses_impossible_scores() -> None:
    with pytest.raises(ValueError, match="scores are from 0 to 1"):
        expected_discordance(1.2, 0.5)
