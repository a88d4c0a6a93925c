"""Votes replayed: the same tokens on the same engine, and why not on another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from scripted_engine import ScriptedEngine

from app.arena.replay import Replay, Replayed
from app.arena.round import make_vote
from app.arena.tables import replay_html
from app.arena.vote import Vote


async def replayed(vote: Vote, engines: Any) -> tuple[Replayed, ...]:
    async for results in Replay(vote, engines).results():
        last = results
    return last


@pytest.mark.asyncio
async def test_the_same_engine_writes_the_same_again(engines: Any, played: Any) -> None:
    vote = make_vote(await played("one", "two"), "A", owner="me", engines=engines)
    asked = {name: list(engine.requests) for name, engine in engines.items()}
    results = await replayed(Vote.from_json(vote.to_json()), engines)
    assert [(one.side, one.turn) for one in results] == [("A", 0), ("A", 1), ("B", 0), ("B", 1)]
    assert all(one.is_identical and not one.reasons for one in results)
    for name, engine in engines.items():
        again = engine.requests[2:]
        assert [prompt for prompt, _ in again] == [prompt for prompt, _ in asked[name]]
        seeds = [answer.seed for answer in (vote.a if name == "alpha" else vote.b).answers]
        assert [params for _, params in again] == [
            replace(params, seed=seed) for (_, params), seed in zip(asked[name], seeds, strict=True)
        ]
    assert "identical, token for token" in replay_html(results, 4)


@pytest.mark.asyncio
async def test_another_answer_is_shown_with_what_has_changed(engines: Any, played: Any) -> None:
    vote = make_vote(await played("one"), "A", owner="me", engines=engines)
    retrained = ScriptedEngine(lambda prompt: " alpha <b>says</b>\n\nno", model_name="alpha")
    retrained._info = replace(retrained.info, weights_sha256="f" * 64, versions={"torch": "9"})
    one, missing = await replayed(vote, {"alpha": retrained})
    assert (one.is_identical, one.first_difference) == (False, len(" alpha "))
    assert one.reasons == (f"the weights was {'0' * 12}…, is {'f' * 12}…", "torch was absent, is 9")
    assert missing.text is None
    assert missing.reasons == ("beta is not loaded: start the app with it to replay this answer",)
    shown = replay_html((one, missing), 2)
    assert "differs from token 8 of" in shown
    assert "alpha &lt;b&gt;says&lt;/b&gt; no" in shown
    assert "\n" not in shown
    retrained.close()


@pytest.mark.asyncio
async def test_a_stopped_answer_is_replayed_up_to_where_it_was_stopped(engines: Any, played: Any) -> None:
    vote = make_vote(await played("one"), "A", owner="me", engines=engines)
    (answer,) = vote.a.answers
    stopped = replace(answer, finish_reason="abort", token_ids=answer.token_ids[:3], text=answer.text[:3])
    none = replace(stopped, token_ids=(), text="")
    results = await replayed(replace(vote, a=replace(vote.a, answers=(stopped, none))), engines)
    assert results[0].is_identical
    assert engines["alpha"].requests[-1][1].max_tokens == 3
    assert results[1].text is None
    assert "identical up to where it was stopped" in replay_html(results, 3)


@pytest.mark.asyncio
async def test_leaving_a_replay_frees_the_engines(engines: Any, played: Any) -> None:
    vote = make_vote(await played("one"), "A", owner="me", engines=engines)
    for engine in engines.values():
        engine.ttft_s = 30.0
    results = Replay(vote, engines).results()
    assert await anext(results) == ()
    await asyncio.wait_for(results.aclose(), 1)  # type: ignore[attr-defined]
    assert all(engine.stats().num_running == 0 for engine in engines.values())
