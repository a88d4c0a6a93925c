"""Votes: kept whole, each owner's own, counted for the ranking, exported without doing harm."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from app.arena.export import ranking_csv, ranking_json_lines, ranking_rows, votes_csv, votes_json_lines
from app.arena.ranking import rank
from app.arena.round import make_vote
from app.arena.vote import Vote
from app.arena.votes import Votes, comparisons, num_both_bad
from app.store import Database
from model.interface import InvalidRequest


@pytest.mark.asyncio
async def test_a_vote_holds_everything_and_comes_back_whole(engines: Any, played: Any) -> None:
    current = await played("one", "two ü\u2028", prefix="Be kind.", seed="9223372036854775807", is_blind=True)
    vote = make_vote(current, "tie", owner="me", engines=engines)
    assert "\n" not in vote.to_json()
    assert Vote.from_json(vote.to_json()) == vote
    assert vote.questions == ("one", "two ü")
    info = engines["alpha"].info
    assert vote.a.engine == info.as_dict()
    assert vote.a.sampling["temperature"] == 0.5
    assert vote.a.sampling["stop"] == ["\n\nhuman:"]
    assert vote.a.chat_format == "persimmon"
    kept = vote.b.answers[1]
    assert kept.prompt == engines["beta"].requests[1][0]
    assert (kept.seed, kept.finish_reason) == (9223372036854775807, "stop")
    assert kept.text == f" beta says {len(kept.prompt)}"
    record = json.loads(vote.to_json()) | {"format": 99}
    with pytest.raises(InvalidRequest, match="format 99"):
        Vote.from_json(json.dumps(record))


@pytest.mark.asyncio
async def test_everybody_sees_own_votes_and_all_count(engines: Any, played: Any) -> None:
    votes = Votes(Database(None))
    given = []
    for number, (owner, verdict, is_blind) in enumerate(
        [("me", "A", True), ("you", "B", True), ("me", "tie", False), ("me", "both bad", True), ("you", "A", False)]
    ):
        current = await played(f"question {number}", is_blind=is_blind)
        given.append(make_vote(current, verdict, owner=owner, engines=engines))
        votes.add(given[-1])
    with pytest.raises(InvalidRequest, match="you have voted on this round"):
        votes.add(given[0])
    assert votes.of("me") == [given[3], given[2], given[0]]
    assert votes.of("me", most=1) == [given[3]]
    assert (votes.count("me"), votes.count("nobody")) == (3, 0)
    assert votes.get("you", given[1].id) == given[1]
    with pytest.raises(InvalidRequest, match="no vote"):
        votes.get("me", given[1].id)

    (group,) = rank(comparisons(votes.tallies(only_blind=False)))
    first, second = group.standings
    assert (first.player.model, first.num_wins, first.num_losses, first.num_ties) == ("alpha", 2, 1, 1)
    assert num_both_bad(votes.tallies(only_blind=False)) == {first.player: 1, second.player: 1}
    (blind,) = rank(comparisons(votes.tallies(only_blind=True)))
    assert [standing.num_comparisons for standing in blind.standings] == [2, 2]


HOSTILE = '=HYPERLINK("http://example.org")\n@SUM(1+1)'


@pytest.mark.asyncio
async def test_exports_hold_all_and_run_nothing(engines: Any, played: Any) -> None:
    for engine in engines.values():
        engine.answer = lambda prompt: "-2+3 cmd|' /C calc'!A0"
    vote = make_vote(await played(HOSTILE, "+1", prefix="@me"), "A", owner="me", engines=engines)
    rows = list(csv.DictReader(io.StringIO(votes_csv([vote]), newline="")))
    assert [row["prompt"] for row in rows] == [f"'{HOSTILE}", "+1"]
    assert rows[0]["prefix"] == "'@me"
    assert rows[1]["answer_b"] == "'-2+3 cmd|' /C calc'!A0"
    assert [(row["vote"], row["turn"], row["verdict"]) for row in rows] == [(vote.id, "1", "A"), (vote.id, "2", "A")]
    assert rows[0]["weights_sha256_a"] == engines["alpha"].info.weights_sha256
    assert votes_json_lines([vote, vote]).splitlines() == [vote.to_json()] * 2

    votes = Votes(Database(None))
    votes.add(replace(vote, a=replace(vote.a, setting="=1+1")))
    tallies = votes.tallies(only_blind=False)
    ranking = ranking_rows(rank(comparisons(tallies)), num_both_bad(tallies))
    table = list(csv.DictReader(io.StringIO(ranking_csv(ranking), newline="")))
    assert [row["setting"] for row in table] == ["'=1+1", "Greedy"]
    assert float(table[0]["low"]) < float(table[0]["rating"]) < float(table[0]["high"])
    assert [json.loads(line) for line in ranking_json_lines(ranking).splitlines()] == ranking
    assert ranking_csv([]) == ""
