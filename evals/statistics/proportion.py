"""Wilson's interval of a share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share of n items with its 95 % interval, all as fractions of 1; NaN where n is 0."""

    value: float
    low: float
    high: float
    n: int

    def contains(self, share: float) -> bool:
        """Whether `share` lies in the interval; false where it is undefined."""
        return self.low <= share <= self.high


def wilson(count: int, n: int, *, confidence: float = CONFIDENCE) -> Proportion:
    """The Wilson score interval of `count` out of `n` (Wilson 1927), without continuity correction.

    Raises:
        ValueError: not 0 <= count <= n.
    """
    if not 0 <= count <= n:
        raise ValueError(f"count={count} of n={n} is not allowed: it must be from 0 to n")
    if n == 0:
        return Proportion(math.nan, math.nan, math.nan, 0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = count / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the exact bound is the end itself; rounding would miss it by an ulp.
    low = 0.0 if count == 0 else middle - half
    high = 1.0 if count == n else middle + half
    return Proportion(share, low, high, n)
