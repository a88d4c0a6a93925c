"""Two models on the same items: their difference, its interval, and whether it can be chance.

All differences are A's score minus B's, as fractions of 1. Items both get right, or both wrong, say nothing about
which is better; everything rests on the discordant ones.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from scipy.stats import binomtest  # type: ignore[import-untyped]

from evals.statistics.clusters import clustered
from evals.statistics.proportion import CONFIDENCE


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Score of A minus score of B over n items both answered, as fractions of 1; NaN where n is 0.

    Attributes:
        low, high: 95 % interval. stderr: of the difference; NaN where one item or one cluster is all there is.
        only_a, only_b: how many items only A, only B got right.
        p_value: of McNemar's exact test.
    """

    difference: float
    low: float
    high: float
    stderr: float
    n: int
    only_a: int
    only_b: int
    p_value: float

    @property
    def discordant_share(self) -> float:
        """The share of the items on which the two differ; NaN where n is 0."""
        return (self.only_a + self.only_b) / self.n if self.n else math.nan


def paired_difference(
    a: Sequence[bool],
    b: Sequence[bool],
    clusters: Sequence[Hashable] | None = None,
    *,
    confidence: float = CONFIDENCE,
) -> PairedDifference:
    """Compare two models item by item.

    The interval is :func:`adjusted_wald`'s, or, where items share a cluster, :func:`evals.statistics.clustered`'s of
    the item differences (Miller 2024), cut at -1 and 1. The p-value is McNemar's exact one in
    both cases; it takes the items as independent, so with clusters the interval is the more careful of the two.

    Args:
        a, b: per item, in the same order, whether the model was right.
        clusters: per item what it shares with others; `None` where items are independent.

    Raises:
        ValueError: lengths differ, or an outcome is not 0 or 1.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} outcomes of A but {len(b)} of B: both are needed for each item")
    if not {*a, *b} <= {0, 1}:
        raise ValueError("an outcome is not 0 or 1: leave out items that failed")
    differences = [int(ours) - int(theirs) for ours, theirs in zip(a, b, strict=True)]
    n, only_a, only_b = len(differences), differences.count(1), differences.count(-1)
    estimate = clustered(differences, range(n) if clusters is None else clusters, confidence=confidence)
    if n == 0:
        return PairedDifference(math.nan, math.nan, math.nan, math.nan, 0, 0, 0, math.nan)
    if clusters is None:
        low, high = adjusted_wald(only_a, only_b, n, confidence=confidence)
    else:  # a NaN stays one in this order of the arguments
        low, high = max(estimate.low, -1.0), min(estimate.high, 1.0)
    p_value = mcnemar_exact(only_a, only_b)
    return PairedDifference(estimate.value, low, high, estimate.stderr, n, only_a, only_b, p_value)


def adjusted_wald(only_a: int, only_b: int, n: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The interval of a paired difference of shares by Bonett and Price, as fractions of 1; NaN where n is 0.

    One item is added to each discordant count and two to n before Wald's formula, and the bounds are cut at -1 and
    1. Bonett and Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data", Journal of Educational and Behavioral Statistics 37(4); recommended by Fagerland, Lydersen and
    Laake 2014, Statistics in Medicine 33(16). Unlike Wald's own it has a width where the models never differ.

    Raises:
        ValueError: a count is negative, or there are more discordant items than items.
    """
    if min(only_a, only_b) < 0 or only_a + only_b > n:
        raise ValueError(f"only_a={only_a} and only_b={only_b} of n={n} are not allowed: they are counts within n")
    if n == 0:
        return math.nan, math.nan
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    middle = share_a - share_b
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    half = z * math.sqrt((share_a + share_b - middle * middle) / (n + 2))
    return max(middle - half, -1.0), min(middle + half, 1.0)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """The two-sided p-value that the models are equally good, from the discordant items alone.

    McNemar 1947 with the binomial distribution in place of chi-square: under the hypothesis each discordant item
    falls to either model with probability 1/2. It is 1 where no item is discordant.

    Raises:
        ValueError: a count is negative.
    """
    if min(only_a, only_b) < 0:
        raise ValueError(f"only_a={only_a} and only_b={only_b} are not allowed: they are counts")
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)
