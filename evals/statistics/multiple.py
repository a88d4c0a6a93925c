"""Many tests at once."""

from __future__ import annotations

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: below 0.05 all hold together with 95 % confidence.

    The i-th smallest of m is multiplied by m - i + 1, none falls below a smaller one's, and 1 is the most. Holm 1979,
    "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2). A NaN is no
    test: it stays NaN and is not counted.

    Raises:
        ValueError: a p-value is not from 0 to 1.
    """
    if any(not 0 <= p <= 1 for p in p_values if not math.isnan(p)):
        raise ValueError(f"p-values {list(p_values)} are not allowed: each must be from 0 to 1, or NaN")
    adjusted = [math.nan] * len(p_values)
    order = sorted((place for place, p in enumerate(p_values) if not math.isnan(p)), key=lambda place: p_values[place])
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
