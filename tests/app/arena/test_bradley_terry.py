"""The fit against closed forms, other people's optimisers, and votes simulated from known strengths."""

from __future__ import annotations

import itertools
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import binom, chi2
from sklearn.linear_model import LogisticRegression

from app.arena.bradley_terry import PRIOR_DEVIATION, fit

Counts: TypeAlias = NDArray[np.int64]


def simulated(
    strengths: NDArray[np.float64], tie: float, votes_a_pair: int, random: np.random.Generator
) -> tuple[Counts, Counts]:
    """Votes between all pairs, drawn from the model itself."""
    wins = np.zeros((len(strengths),) * 2, dtype=np.int64)
    ties = np.zeros_like(wins)
    for i, j in itertools.combinations(range(len(strengths)), 2):
        weights = np.exp([strengths[i], strengths[j], tie + (strengths[i] + strengths[j]) / 2])
        wins[i, j], wins[j, i], ties[i, j] = random.multinomial(votes_a_pair, weights / weights.sum())
        ties[j, i] = ties[i, j]
    return wins, ties


@st.composite
def tables(draw: st.DrawFn) -> tuple[Counts, Counts]:
    """Any counts of two to five players, lopsided and empty ones too."""
    num_players = draw(st.integers(2, 5))
    counts = st.lists(st.integers(0, 30), min_size=num_players**2, max_size=num_players**2)
    wins, half_ties = (np.array(draw(counts)).reshape(num_players, num_players) for _ in range(2))
    for table in (wins, half_ties):
        np.fill_diagonal(table, 0)
    return wins, half_ties + half_ties.T


def test_two_players_have_the_closed_form() -> None:
    """Davidson's estimates for one pair: the odds are wins over losses, b is ties over the root of their product."""
    wins, losses, ties = 60_000, 30_000, 20_000
    fitted = fit(np.array([[0, wins], [losses, 0]]), np.array([[0, ties], [ties, 0]]))
    one, other = fitted.log_strengths
    assert one - other == pytest.approx(np.log(wins / losses), abs=1e-4)
    assert fitted.tie == pytest.approx(np.log(ties / np.sqrt(wins * losses)), abs=1e-3)
    # The variance of the log of a ratio of two multinomial counts.
    assert fitted.difference_deviation(0, 1) == pytest.approx(np.sqrt(1 / wins + 1 / losses), rel=1e-3)


@settings(max_examples=10, deadline=None)
@given(tables())
def test_it_is_the_maximum_another_optimiser_finds(table: tuple[Counts, Counts]) -> None:
    wins, ties = table
    pairs = list(itertools.combinations(range(len(wins)), 2))

    def minus_log_posterior(parameters: NDArray[np.float64]) -> float:
        strengths, tie = parameters[:-1], parameters[-1]
        total = (parameters**2).sum() / (2 * PRIOR_DEVIATION**2)
        for i, j in pairs:
            scores = np.array([strengths[i], strengths[j], tie + (strengths[i] + strengths[j]) / 2])
            total -= np.array([wins[i, j], wins[j, i], ties[i, j]]) @ (scores - logsumexp(scores))
        return float(total)

    found = minimize(minus_log_posterior, np.zeros(len(wins) + 1), method="BFGS", options={"gtol": 1e-6})
    fitted = fit(wins, ties)
    assert minus_log_posterior(np.append(fitted.log_strengths, fitted.tie)) <= found.fun + 1e-9
    np.testing.assert_allclose(np.append(fitted.log_strengths, fitted.tie), found.x, atol=1e-3)


def test_without_ties_it_is_logistic_regression() -> None:
    strengths = np.array([-1.0, -0.2, 0.3, 0.9])
    wins, ties = simulated(strengths, -np.inf, 5000, np.random.default_rng(4))
    assert not ties.any()
    rows, won, counts = [], [], []
    for i, j in itertools.permutations(range(4), 2):
        rows += [np.eye(4)[i] - np.eye(4)[j], np.eye(4)[j] - np.eye(4)[i]]
        won += [1, 0]
        counts += [wins[i, j]] * 2
    regression = LogisticRegression(C=PRIOR_DEVIATION**2, fit_intercept=False, tol=1e-8)
    # Each vote is there once from either side, so its weight is a half.
    regression.fit(np.array(rows), won, sample_weight=np.array(counts) / 2)
    # Ties have a small probability even where none was seen, hence not closer.
    np.testing.assert_allclose(fit(wins, ties).log_strengths, regression.coef_[0], atol=5e-3)


@settings(max_examples=50, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_order_and_sides_do_not_matter(table: tuple[Counts, Counts], random: object) -> None:
    wins, ties = table
    order = np.arange(len(wins))
    random.shuffle(order)  # type: ignore[attr-defined]
    fitted = fit(wins, ties)
    shuffled = fit(wins[np.ix_(order, order)], ties[np.ix_(order, order)])
    np.testing.assert_allclose(shuffled.log_strengths, fitted.log_strengths[order], atol=1e-6)
    np.testing.assert_allclose(shuffled.covariance, fitted.covariance[np.ix_(order, order)], atol=1e-6)
    assert shuffled.tie == pytest.approx(fitted.tie, abs=1e-6)
    mirrored = fit(wins.T, ties)  # every winner the loser
    np.testing.assert_allclose(mirrored.log_strengths, -fitted.log_strengths, atol=1e-6)
    assert abs(fitted.log_strengths.sum()) < 1e-9
    np.testing.assert_allclose(fitted.covariance.sum(axis=1), 0, atol=1e-6)


def test_known_strengths_lie_in_the_intervals_as_often_as_these_say() -> None:
    """The 95 % region of all differences together, over 300 simulated tables.

    Bounds: the count of tables whose region holds the truth is binomial with 0.95; a right implementation is outside
    them with probability 2e-6 (the seed is fixed, so it is so for good or not at all).
    """
    random = np.random.default_rng(20)
    num_players, num_tables = 4, 300
    threshold = chi2.ppf(0.95, num_players - 1)
    num_inside = 0
    for _ in range(num_tables):
        strengths = random.normal(0, 0.8, num_players)
        fitted = fit(*simulated(strengths, random.normal(-0.5, 0.5), 60, random))
        error = fitted.log_strengths - (strengths - strengths.mean())
        num_inside += error @ np.linalg.pinv(fitted.covariance, rcond=1e-9) @ error <= threshold
    low, high = binom.ppf([1e-6, 1 - 1e-6], num_tables, 0.95)
    assert low <= num_inside <= high


def test_a_player_that_never_lost_is_finite_and_unsure() -> None:
    fitted = fit(np.array([[0, 5], [0, 0]]), np.zeros((2, 2), dtype=np.int64))
    difference = fitted.log_strengths[0] - fitted.log_strengths[1]
    assert 1 < difference < 5
    assert fitted.difference_deviation(0, 1) > 1
    many = fit(np.array([[0, 10**9], [0, 0]]), np.zeros((2, 2), dtype=np.int64))
    assert np.isfinite(many.log_strengths).all()
    assert many.log_strengths[0] > 5


def test_no_votes_say_nothing() -> None:
    empty = np.zeros((3, 3), dtype=np.int64)
    fitted = fit(empty, empty)
    np.testing.assert_array_equal(fitted.log_strengths, 0)
    assert fitted.difference_deviation(0, 2) == pytest.approx(PRIOR_DEVIATION * np.sqrt(2))


@pytest.mark.parametrize(
    ("wins", "ties", "message"),
    [
        ([[0, 1]], [[0, 0]], "not square"),
        ([[0, -1], [0, 0]], [[0, 0], [0, 0]], "negative"),
        ([[2, 1], [0, 0]], [[0, 0], [0, 0]], "compared with itself"),
        ([[0, 1], [0, 0]], [[0, 1], [0, 0]], "not symmetric"),
    ],
)
def test_impossible_counts_are_refused(wins: list[list[int]], ties: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(np.array(wins), np.array(ties))
