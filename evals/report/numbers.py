"""How figures are written: percentages with one digit, and a dash for what is undefined, never 0."""

from __future__ import annotations

from evals.export import EMPTY
from evals.statistics import Proportion

DIGITS = 6  # of shares in files: more would differ from machine to machine


def percent(share: float | None) -> str:
    """A share of 1; `None` and NaN are undefined."""
    return EMPTY if share is None or share != share else f"{100 * share:.1f}"


def interval(score: Proportion) -> str:
    """The bounds of a score."""
    return EMPTY if score.low != score.low else f"{percent(score.low)} to {percent(score.high)}"


def bounds(score: Proportion) -> str:
    """The bounds of a score as `[39.8, 42.7]`; empty where they are undefined."""
    return "" if score.low != score.low else f"[{percent(score.low)}, {percent(score.high)}]"


def count(number: int | None) -> str:
    """A count."""
    return EMPTY if number is None else str(number)


def rate(per_second: float | None) -> str:
    """Items a second, or a ratio of such."""
    return EMPTY if per_second is None else f"{per_second:.2f}"


def defined(value: float | None) -> float | None:
    """`None` for NaN."""
    return None if value is None or value != value else value


def rounded(share: float | None) -> float | None:
    """A share for a file, to :data:`DIGITS` digits; `None` where it is undefined."""
    value = defined(share)
    return None if value is None else round(value, DIGITS)
