"""The scores that are shown, as a CSV file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from app.export import to_csv
from app.leaderboard.scores import Score


def scores_csv(scores: Sequence[Score]) -> str:
    """One row a score, with every value of :class:`Score`; shares are fractions of 1, the undefined is empty."""
    names = [field.name for field in fields(Score)]
    return to_csv(
        names,
        ([_cell(getattr(score, name)) for name in names] for score in scores),
    )


def _cell(value: object) -> str | int | float | None:
    if isinstance(value, tuple):
        return "; ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if value is None or isinstance(value, str | int | float) else str(value)
