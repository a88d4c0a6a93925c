"""Votes in the app's database: kept, listed for their owner, and counted for the ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.arena.players import Player
from app.arena.ranking import Comparison, Outcome
from app.arena.vote import Verdict, Vote
from app.store import Database
from model.interface import InvalidRequest

MIGRATIONS = (
    "CREATE TABLE arena_votes (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, "
    "is_blind INTEGER NOT NULL, verdict TEXT NOT NULL, player_a TEXT NOT NULL, player_b TEXT NOT NULL, "
    "record TEXT NOT NULL)",
    "CREATE INDEX arena_votes_by_owner ON arena_votes (owner, number)",
)

_OUTCOMES: dict[Verdict, Outcome] = {"A": "first", "B": "second", "tie": "tie"}
"""Which verdicts are a result between the two. `both bad` is none: it says what each is worth, not which is better, and
that a question was beyond both would otherwise draw their ratings together."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Equal votes, counted."""

    a: Player
    b: Player
    verdict: Verdict
    count: int


class Votes:
    """The votes of everybody who uses this server."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("arena", MIGRATIONS)

    def add(self, vote: Vote) -> None:
        """Keep a vote for good.

        Raises:
            InvalidRequest: there is one of that id.
        """
        with self._database.transaction() as connection:
            row = connection.execute("SELECT 1 FROM arena_votes WHERE id = ?", (vote.id,)).fetchone()
            if row is not None:
                raise InvalidRequest("you have voted on this round: start a new one")
            connection.execute(
                "INSERT INTO arena_votes (id, owner, is_blind, verdict, player_a, player_b, record) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    vote.id,
                    vote.owner,
                    int(vote.is_blind),
                    vote.verdict,
                    vote.a.player.key,
                    vote.b.player.key,
                    vote.to_json(),
                ),
            )

    def of(self, owner: str, *, most: int = -1) -> list[Vote]:
        """An owner's votes, the last first; `most` of them, or all."""
        rows = self._database.read(
            "SELECT record FROM arena_votes WHERE owner = ? ORDER BY number DESC LIMIT ?", owner, most
        )
        return [Vote.from_json(str(record)) for (record,) in rows]

    def count(self, owner: str) -> int:
        """How many votes an owner has."""
        ((number,),) = self._database.read("SELECT count(*) FROM arena_votes WHERE owner = ?", owner)
        return int(number or 0)

    def get(self, owner: str, identity: str) -> Vote:
        """One vote of an owner.

        Raises:
            InvalidRequest: the owner has no such vote.
        """
        rows = self._database.read("SELECT record FROM arena_votes WHERE owner = ? AND id = ?", owner, identity)
        if not rows:
            raise InvalidRequest(f"there is no vote {identity!r} of yours: choose one from the list")
        return Vote.from_json(str(rows[0][0]))

    def tallies(self, *, only_blind: bool) -> list[Tally]:
        """All votes counted, whoever gave them."""
        rows = self._database.read(
            "SELECT player_a, player_b, verdict, count(*) FROM arena_votes WHERE is_blind >= ? "
            "GROUP BY player_a, player_b, verdict ORDER BY 1, 2, 3",
            int(only_blind),
        )
        return [
            Tally(Player.from_key(str(a)), Player.from_key(str(b)), verdict, int(count))  # type: ignore[arg-type]
            for a, b, verdict, count in rows
        ]


def comparisons(tallies: Sequence[Tally]) -> list[Comparison[Player]]:
    """The tallies that say which of the two is better, or that neither is."""
    return [
        Comparison(tally.a, tally.b, _OUTCOMES[tally.verdict], tally.count)
        for tally in tallies
        if tally.verdict in _OUTCOMES
    ]


def num_both_bad(tallies: Sequence[Tally]) -> dict[Player, int]:
    """How many votes called each player's answer bad along with the other's."""
    counts: dict[Player, int] = {}
    for tally in tallies:
        if tally.verdict == "both bad":
            for player in (tally.a, tally.b):
                counts[player] = counts.get(player, 0) + tally.count
    return counts
