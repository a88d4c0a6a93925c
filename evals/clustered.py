"""A mean over values that come in clusters (tokens in texts), with an interval that takes only the clusters for
independent. What is undefined is NaN."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.statistics import CONFIDENCE


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean of `n` values in `num_clusters` clusters; its interval is NaN with fewer than two clusters."""

    value: float
    low: float
    high: float
    n: int
    num_clusters: int


def clustered_mean(
    values: NDArray[np.float64], clusters: NDArray[np.int64], *, confidence: float = CONFIDENCE
) -> ClusteredMean:
    """The mean with Student's t interval on the cluster-robust standard error (Miller 2024, "Adding error bars to
    evals", times G / (G - 1) for G clusters). With clusters of one size it is the t interval of their
    means.

    Args:
        values: [n]; for a paired comparison the differences.
        clusters: [n], which cluster each belongs to.
    """
    names, which = np.unique(clusters, return_inverse=True)
    if not len(values):
        return ClusteredMean(math.nan, math.nan, math.nan, 0, 0)
    mean = float(values.mean())
    if len(names) < 2:
        return ClusteredMean(mean, math.nan, math.nan, len(values), len(names))
    sums = np.bincount(which, weights=values - mean)
    stderr = math.sqrt(float(np.square(sums).sum()) * len(names) / (len(names) - 1)) / len(values)
    half = student_t(confidence, len(names) - 1) * stderr
    return ClusteredMean(mean, mean - half, mean + half, len(values), len(names))


def student_t(confidence: float, degrees: int) -> float:
    """t with P(|T| <= t) = `confidence` for a whole number of degrees of freedom, by bisection."""
    low, high = 0.0, 1.0
    while _within(high, degrees) < confidence:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < confidence else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """P(|T| <= t) (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = total = 0.0 if degrees == 1 else cosine if odd else 1.0
    for power in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
