"""What makes a score suspect before it is compared with anything."""

from __future__ import annotations

from evals.statistics.proportion import Proportion, wilson


def at_chance(count: int, n: int, chance: float) -> bool:
    """Whether guessing explains the score: its Wilson interval holds `chance`. False where n is 0."""
    return wilson(count, n).contains(chance)


def below_chance(count: int, n: int, chance: float) -> bool:
    """Whether the score is worse than guessing: its Wilson interval ends below `chance`. False where n is 0."""
    return wilson(count, n).high < chance


def is_constant(common_share: float | None, n: int) -> bool:
    """Whether all of more than one answers are the same.

    Args:
        common_share: the share of the answer given most often; `None` where there is none.
    """
    return n > 1 and common_share == 1


def score_warnings(
    *,
    correct: int,
    n: int,
    chance: float | None = None,
    common_share: float | None = None,
    common_answer: str | None = None,
    metric: str = "score",
    score: Proportion | None = None,
) -> tuple[str, ...]:
    """The warnings of one cell of a table, in words; none where nothing was scored.

    Args:
        chance: the share right by guessing; `None` where nothing can be guessed.
        common_share, common_answer: the answer given most often and its share of the answers; an empty answer is
            one that could not be read.
        score: the interval to hold against chance where Wilson's is not it, as for clustered items.

    Raises:
        ValueError: not 0 <= correct <= n.
    """
    found = []
    if is_constant(common_share, n):
        found.append(f"every answer is {common_answer or 'unreadable'}")
    interval = wilson(correct, n) if score is None else score
    if chance is not None and interval.contains(chance):
        found.append(f"{metric} is at chance")
    elif chance is not None and interval.high < chance:
        found.append(f"{metric} is below chance")
    return tuple(found)
