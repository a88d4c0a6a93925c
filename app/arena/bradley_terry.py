r"""Strengths of players from the outcomes of their comparisons: Bradley and Terry's model with Davidson's ties.

Player i has the log-strength a_i. With b = exp(tie),

    P(i beats j) : P(j beats i) : P(tie)  =  exp(a_i) : exp(a_j) : b * exp((a_i + a_j) / 2)

so where one of the two wins, i does with odds exp(a_i - a_j): Bradley and Terry 1952, Biometrika 39(3/4). The term for
ties is Davidson's 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison experiments",
JASA 65(329). The other custom, a tie as half a win for each, is not the likelihood of anything: it pulls strengths
together where ties are many, and takes a tie to be as uncertain as a win. Davidson's model costs one more number, and
its intervals are the likelihood's.

What is computed is the maximum of the likelihood times a weak prior: each log-strength, and `tie`, is Normal with mean
0 and standard deviation `PRIOR_DEVIATION`. Without it a player that never lost would be infinitely strong, and a tie
that never happened infinitely improbable. It also puts the mean of the log-strengths at 0. The logarithm of the product
is strictly concave, so there is one maximum, and Newton's method finds it. The covariance is the inverse of its
curvature there (Laplace's approximation): unlike a bootstrap over votes it has a width for a player that never lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIOR_DEVIATION = 2.0
"""Of log-strengths. It holds the odds of two players of a pool to within 250:1 with probability 95 %
(exp(1.96 * 2 * sqrt 2)), which is next to no opinion; twenty decided votes between two outweigh it by 40 to 1."""

_SMALLEST_GAIN = 1e-12  # of Newton's step in the log posterior, whose own rounding is near 1e-13 a thousand votes
_MOST_STEPS = 200

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Strengths:
    """A fit.

    Attributes:
        log_strengths: [num_players], natural logarithms; their mean is 0.
        covariance: [num_players, num_players] of the log-strengths as differences from their mean.
        tie: natural logarithm of b above. Two equal players tie with probability b / (2 + b).
    """

    log_strengths: Floats
    covariance: Floats
    tie: float

    def difference_deviation(self, one: int, other: int) -> float:
        """Standard deviation of the difference of two players' log-strengths."""
        pair = [one, other]
        (a, ab), (_, b) = self.covariance[np.ix_(pair, pair)]
        return float(np.sqrt(max(a + b - 2 * ab, 0.0)))


def fit(wins: NDArray[np.int64], ties: NDArray[np.int64]) -> Strengths:
    """Strengths from counts.

    Players that are not connected through comparisons get strengths too, but nothing says how these compare: fit each
    connected group alone, as `app.arena.ranking` does.

    Args:
        wins: [num_players, num_players], how often the row's player beat the column's.
        ties: [num_players, num_players], symmetric, how often the two tied.

    Raises:
        ValueError: a shape, a negative count, a player against itself, or ties that are not symmetric.
    """
    _check(wins, ties)
    num_players = len(wins)
    parameters = np.zeros(num_players + 1)
    value, gradient, curvature = _log_posterior(parameters, wins, ties)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(curvature, gradient)
        gain = float(gradient @ step)
        if gain <= _SMALLEST_GAIN * max(1.0, abs(value)):
            break
        size = 1.0
        while (tried := _log_posterior(parameters + size * step, wins, ties))[0] < value + 1e-4 * size * gain:
            size /= 2  # a whole step can pass the maximum where it is far away
            if size < 1e-10:
                break
        parameters = parameters + size * step
        value, gradient, curvature = tried
    covariance = np.linalg.inv(curvature)[:num_players, :num_players].astype(np.float64)
    # The data say nothing of a shift of all players together; that the prior does is no uncertainty of a ranking.
    covariance -= PRIOR_DEVIATION**2 / num_players
    strengths = parameters[:num_players]
    return Strengths(strengths - strengths.mean(), covariance, float(parameters[-1]))


def _log_posterior(
    parameters: Floats, wins: NDArray[np.int64], ties: NDArray[np.int64]
) -> tuple[float, Floats, Floats]:
    """Its value but for a constant, its gradient, and its curvature (minus the matrix of second derivatives).

    Args:
        parameters: [num_players + 1], the log-strengths, then `tie`.
    """
    strengths, tie = parameters[:-1], parameters[-1]
    half = (strengths[:, None] - strengths[None, :]) / 2
    highest = np.maximum(np.abs(half), tie)
    win, loss, draw = np.exp(half - highest), np.exp(-half - highest), np.exp(tie - highest)
    total = win + loss + draw
    p_win, p_tie = win / total, draw / total
    log_total = np.log(total) + highest

    games = wins + wins.T + ties
    # A pair's outcome is told by its points (1 for a win, 1/2 for a tie) and by whether it is a tie.
    expected_points = p_win + p_tie / 2
    points_variance = p_win + p_tie / 4 - expected_points**2
    points_tie_covariance = p_tie / 2 - expected_points * p_tie

    precision = PRIOR_DEVIATION**-2
    value = (wins * (half - log_total)).sum() + (ties * (tie - log_total)).sum() / 2
    value -= precision / 2 * (parameters**2).sum()
    gradient = np.append((wins + ties / 2 - games * expected_points).sum(axis=1), (ties - games * p_tie).sum() / 2)
    gradient -= precision * parameters

    curvature = np.zeros((len(parameters), len(parameters)))
    information = games * points_variance
    curvature[:-1, :-1] = np.diag(information.sum(axis=1)) - information
    curvature[:-1, -1] = curvature[-1, :-1] = (games * points_tie_covariance).sum(axis=1)
    curvature[-1, -1] = (games * p_tie * (1 - p_tie)).sum() / 2
    curvature += precision * np.eye(len(parameters))
    return float(value), gradient, curvature


def _check(wins: NDArray[np.int64], ties: NDArray[np.int64]) -> None:
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or ties.shape != wins.shape or not len(wins):
        raise ValueError(f"wins {wins.shape} and ties {ties.shape} are not square tables of the same players")
    if wins.min() < 0 or ties.min() < 0:
        raise ValueError("a count of wins or ties is negative")
    if wins.diagonal().any() or ties.diagonal().any():
        raise ValueError("a player was compared with itself, which says nothing: leave it out")
    if (ties != ties.T).any():
        raise ValueError("ties are not symmetric: each counts for both players")
