"""Drawing sides, and a round's steps."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from app.arena.round import Choice, Contestant, Round, draw, make_vote
from app.chat.conversation import Answer
from app.chat.settings import ChatSettings
from model.interface import InvalidRequest

ALPHA, BETA = Choice("alpha", "Greedy"), Choice("beta", "Greedy")


def test_sides_are_drawn_evenly_when_blind_and_never_otherwise() -> None:
    random = Random(3)
    draws = [draw(ALPHA, BETA, ["alpha", "beta"], is_blind=True, random=random) for _ in range(400)]
    # Binomial(400, 1/2) is outside 140 to 260 with probability 1e-9.
    assert 140 < sum(is_swapped for _, is_swapped in draws) < 260
    assert all((sides[0].model == "beta") == is_swapped for sides, is_swapped in draws)
    named = [draw(ALPHA, BETA, ["alpha", "beta"], is_blind=False, random=random) for _ in range(50)]
    assert set(named) == {((Contestant("alpha", "Greedy"), Contestant("beta", "Greedy")), False)}


def test_any_model_is_each_model_but_never_the_same_side_twice() -> None:
    random = Random(5)
    models = ["alpha", "beta", "gamma"]
    drawn = Counter(
        draw(Choice(None, "Greedy"), ALPHA, models, is_blind=False, random=random)[0][0].model for _ in range(200)
    )
    assert drawn.keys() == {"beta", "gamma"}
    assert min(drawn.values()) > 60  # Binomial(200, 1/2) is below with probability 2e-9
    one_model, _ = draw(ALPHA, Choice(None, "Creative"), ["alpha"], is_blind=False, random=random)
    assert one_model == (Contestant("alpha", "Greedy"), Contestant("alpha", "Creative"))
    with pytest.raises(InvalidRequest, match="same model with the same setting"):
        draw(ALPHA, Choice(None, "Greedy"), ["alpha"], is_blind=True, random=random)


@pytest.mark.asyncio
async def test_both_sides_remember_their_own_answers(engines: Any, played: Any) -> None:
    current = await played("one", "two", prefix="Be kind.")
    first, second = ([prompt for prompt, _ in engine.requests] for engine in engines.values())
    assert first[0] == second[0] == "Be kind.\n\nhuman: one\n\nadept:"
    assert first[1] == "Be kind.\n\nhuman: one\n\nadept: alpha says 28\n\nhuman: two\n\nadept:"
    assert second[1] == "Be kind.\n\nhuman: one\n\nadept: beta says 28\n\nhuman: two\n\nadept:"
    assert [[answer.prompt for answer in side] for side in current.kept] == [first, second]


@pytest.mark.asyncio
async def test_only_whole_answers_are_voted_on_and_once(engines: Any, played: Any) -> None:
    current = await played("one", is_blind=True)
    assert current.is_votable
    assert not current.shows_names
    vote = make_vote(current, "B", owner="me", engines=engines)
    assert (vote.verdict, vote.questions, vote.is_blind, vote.id) == ("B", ("one",), True, current.identity)
    asked = current.ask("two")
    assert not asked.is_votable
    with pytest.raises(InvalidRequest, match="nothing to vote on yet"):
        make_vote(asked, "B", owner="me", engines=engines)
    with pytest.raises(InvalidRequest, match="nothing to vote on yet"):
        make_vote(Round(contestants=current.contestants, settings=current.settings), "A", owner="me", engines=engines)


@pytest.mark.asyncio
async def test_a_failed_side_ends_the_round_without_a_vote(played: Any) -> None:
    current = await played("one", is_blind=True)
    asked = current.ask("two")
    failed = asked.answered((Answer(phase="failed", error="no memory"), Answer(phase="done", text="x")))
    assert failed.has_failed
    assert failed.shows_names
    with pytest.raises(InvalidRequest, match="says nothing of its model"):
        failed.check_votable()
    with pytest.raises(InvalidRequest, match="this round is over"):
        failed.ask("three")


def test_an_empty_question_is_refused() -> None:
    settings = ChatSettings()
    empty = Round(contestants=(Contestant("a", "x"), Contestant("b", "x")), settings=(settings, settings))
    with pytest.raises(InvalidRequest, match="message is empty"):
        empty.ask("  ")
