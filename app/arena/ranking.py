"""Players ranked by their comparisons: ratings with intervals, group by group.

Only who was compared, directly or through others, can be ranked against each other: each connected group has its own
ratings, with their mean at 1000. 400 points are odds of 10:1 for a win where there is one (Elo 1978, "The Rating of
Chessplayers", ch. 1). Intervals take votes as independent; several by one person on one prompt are less than that.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np

from app.arena.bradley_terry import Strengths, fit

PlayerT = TypeVar("PlayerT", bound=Hashable)
Outcome: TypeAlias = Literal["first", "second", "tie"]

CONFIDENCE = 0.95
MEAN_RATING = 1000.0
POINTS = 400 / math.log(10)
"""Rating points per unit of log-strength."""


@dataclass(frozen=True, slots=True)
class Comparison(Generic[PlayerT]):
    """Two players and which of them was better, `count` times."""

    first: PlayerT
    second: PlayerT
    outcome: Outcome
    count: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing(Generic[PlayerT]):
    """One player in its group.

    Attributes:
        rating: points; low, high: its 95 % interval as a difference from the group's mean.
        best_place, worst_place: 1 is the first. Players are surely better or worse where the 95 % interval of the two
            ratings' difference leaves 0 out; that there are many pairs is not corrected for.
        num_wins, num_losses, num_ties: of its comparisons.
    """

    player: PlayerT
    rating: float
    low: float
    high: float
    best_place: int
    worst_place: int
    num_wins: int
    num_losses: int
    num_ties: int

    @property
    def num_comparisons(self) -> int:
        return self.num_wins + self.num_losses + self.num_ties


@dataclass(frozen=True, slots=True)
class Group(Generic[PlayerT]):
    """Players that are connected through comparisons, the strongest first.

    Attributes:
        tie_probability: of two equally strong players, as a fraction of 1.
    """

    standings: tuple[Standing[PlayerT], ...]
    tie_probability: float

    @property
    def num_comparisons(self) -> int:
        return sum(standing.num_comparisons for standing in self.standings) // 2


def rank(comparisons: Iterable[Comparison[PlayerT]]) -> tuple[Group[PlayerT], ...]:
    """The groups, the one with the most comparisons first; players of equal rating in the order of their names.

    Raises:
        ValueError: a player is compared with itself, or a count is negative.
    """
    counted = [comparison for comparison in comparisons if comparison.count]
    for comparison in counted:
        if comparison.first == comparison.second or comparison.count < 0:
            raise ValueError(f"{comparison} is not allowed: two players differ, and a count is at least 0")
    groups = [_ranked(players, counted) for players in _connected(counted)]
    return tuple(sorted(groups, key=lambda group: (-group.num_comparisons, str(group.standings[0].player))))


def _connected(comparisons: list[Comparison[PlayerT]]) -> list[list[PlayerT]]:
    """Players that are connected, in a fixed order whatever the comparisons' own."""
    neighbours: dict[PlayerT, set[PlayerT]] = defaultdict(set)
    for comparison in comparisons:
        neighbours[comparison.first].add(comparison.second)
        neighbours[comparison.second].add(comparison.first)
    groups = []
    left = set(neighbours)
    while left:
        found: set[PlayerT] = set()
        frontier = {next(iter(left))}
        while frontier:
            found |= frontier
            frontier = {other for one in frontier for other in neighbours[one]} - found
        left -= found
        groups.append(sorted(found, key=str))
    return groups


def _ranked(players: list[PlayerT], comparisons: list[Comparison[PlayerT]]) -> Group[PlayerT]:
    places = {player: place for place, player in enumerate(players)}
    wins = np.zeros((len(players), len(players)), dtype=np.int64)
    ties = np.zeros_like(wins)
    for comparison in comparisons:
        if comparison.first not in places:
            continue
        one, other = places[comparison.first], places[comparison.second]
        if comparison.outcome == "tie":
            ties[one, other] += comparison.count
            ties[other, one] += comparison.count
        elif comparison.outcome == "first":
            wins[one, other] += comparison.count
        else:
            wins[other, one] += comparison.count
    strengths = fit(wins, ties)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    standings = []
    for place, player in enumerate(players):
        middle = MEAN_RATING + POINTS * strengths.log_strengths[place]
        half = POINTS * z * math.sqrt(strengths.covariance[place, place])
        num_better, num_worse = _surely_better_and_worse(place, strengths, z)
        standings.append(
            Standing(
                player=player,
                rating=float(middle),
                low=float(middle - half),
                high=float(middle + half),
                best_place=1 + num_better,
                worst_place=len(players) - num_worse,
                num_wins=int(wins[place].sum()),
                num_losses=int(wins[:, place].sum()),
                num_ties=int(ties[place].sum()),
            )
        )
    standings.sort(key=lambda standing: -round(standing.rating, 6))  # equal but for rounding: by name
    b = math.exp(strengths.tie)
    return Group(tuple(standings), b / (2 + b))


def _surely_better_and_worse(place: int, strengths: Strengths, z: float) -> tuple[int, int]:
    num_better = num_worse = 0
    for other, log_strength in enumerate(strengths.log_strengths):
        if other != place:
            ahead = float(log_strength - strengths.log_strengths[place])
            sure = abs(ahead) > z * strengths.difference_deviation(place, other)
            num_better += sure and ahead > 0
            num_worse += sure and ahead < 0
    return num_better, num_worse
