"""Means of items that come in groups, such as MMLU's questions in subjects.

Items of one group go up and down together, so an interval that takes them as independent is too narrow. After
Miller 2024, "Adding Error Bars to Evals" (arXiv:2411.00640), and Cameron and Miller 2015, "A Practitioner's Guide to
Cluster-Robust Inference", Journal of Human Resources 50(2).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from scipy.stats import t as student_t  # type: ignore[import-untyped]

from evals.statistics.proportion import CONFIDENCE, Proportion


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of n values in clusters, with its interval and standard error, all in the values' unit.

    What is undefined is NaN: everything where n is 0; `stderr` and the bounds with a single cluster; the bounds
    where `stderr` is 0, since data without variation do not say how much there is.
    """

    value: float
    low: float
    high: float
    stderr: float
    n: int
    num_clusters: int


def clustered(values: Sequence[float], clusters: Sequence[Hashable], *, confidence: float = CONFIDENCE) -> Estimate:
    """The mean of `values` with a cluster-robust standard error and a Student interval.

    With n values, G clusters and r_c the sum of a cluster's deviations from the mean,
    stderr = sqrt(G / (G - 1) * sum of r_c ** 2) / n. This is Miller's clustered standard error with the usual
    correction for few clusters, and where every value is its own cluster it is the standard error of the mean. The
    interval takes Student's t with G - 1 degrees of freedom, as Cameron and Miller advise: clusters and not items
    are what there is few of, and a normal quantile is too narrow below about 50 of them. Sums are exact.

    Args:
        values: finite numbers, as many as there are items.
        clusters: for each value what it shares with others, such as the subject.

    Raises:
        ValueError: the two differ in length, or a value is not finite.
    """
    if len(values) != len(clusters):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters: each value needs one")
    if not all(map(math.isfinite, values)):
        raise ValueError("a value is not finite: leave out items that have none")
    n = len(values)
    sizes = Counter(clusters)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, math.nan, 0, 0)
    sums: defaultdict[Hashable, Fraction] = defaultdict(Fraction)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] += Fraction(value)
    mean = sum(sums.values(), Fraction()) / n
    if len(sizes) == 1:
        return Estimate(float(mean), math.nan, math.nan, math.nan, n, 1)
    squares = sum(((sums[cluster] - size * mean) ** 2 for cluster, size in sizes.items()), Fraction())
    stderr = math.sqrt(Fraction(len(sizes), len(sizes) - 1) * squares) / n
    if stderr == 0:
        return Estimate(float(mean), math.nan, math.nan, 0.0, n, len(sizes))
    half = float(student_t.ppf((1 + confidence) / 2, len(sizes) - 1)) * stderr
    return Estimate(float(mean), float(mean) - half, float(mean) + half, stderr, n, len(sizes))


def clustered_proportion(
    correct: Sequence[bool], clusters: Sequence[Hashable], *, confidence: float = CONFIDENCE
) -> Proportion:
    """The share of right items as :func:`clustered` gives it, its interval cut at 0 and 1.

    Raises:
        ValueError: the two differ in length.
    """
    estimate = clustered(correct, clusters, confidence=confidence)
    # In this order of the arguments a NaN stays one: max and min keep the first unless another is beyond it.
    return Proportion(estimate.value, max(estimate.low, 0.0), min(estimate.high, 1.0), estimate.n)
