"""Two answers read together: stopped together, left together, and not more often than anybody sees."""

from __future__ import annotations

import asyncio
import time

import pytest
from scripted_engine import ScriptedEngine

from app.arena.duel import Duel
from app.chat.conversation import Conversation
from app.chat.settings import ChatSettings
from model.interface import EngineError, EngineStats, InvalidRequest

LONG = "word " * 400


def is_idle(stats: EngineStats) -> bool:
    return stats.num_running == 0 and stats.num_waiting == 0


def duel(*engines: ScriptedEngine, max_tokens: int | None = None) -> Duel:
    settings = ChatSettings(max_tokens=max_tokens)
    return Duel([(engine, Conversation().ask("Hello?"), settings) for engine in engines])


@pytest.mark.asyncio
async def test_both_stream_together_at_most_ten_times_a_second() -> None:
    fast = ScriptedEngine(lambda prompt: LONG, tokens_per_s=300)
    slow = ScriptedEngine(lambda prompt: LONG, tokens_per_s=100)
    running = duel(fast, slow, max_tokens=100)
    started = time.perf_counter()
    pairs = [pair async for pair in running.updates()]
    assert len(pairs) <= 12 * (time.perf_counter() - started) + 2
    lengths = [(len(a.text), len(b.text)) for a, b in pairs]
    assert lengths == sorted(lengths)
    assert any(0 < b < a < 99 for a, b in lengths)
    assert all(answer.is_final for answer in pairs[-1])
    assert [len(kept.token_ids) for kept in running.kept if kept] == [100, 100]
    fast.close()
    slow.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("ttft_s", [0.0, 30.0], ids=["writing", "reading"])
async def test_leaving_frees_both_engines(ttft_s: float) -> None:
    engines = [ScriptedEngine(lambda prompt: LONG, tokens_per_s=50, ttft_s=ttft_s) for _ in range(2)]
    updates = duel(*engines).updates()
    await anext(updates)
    await asyncio.to_thread(engines[1].wait_for, lambda stats: stats.num_running == 1, 1)
    await updates.aclose()
    for engine in engines:
        assert is_idle(engine.stats())
        assert engine.stats().num_aborted == 1
        engine.close()


@pytest.mark.asyncio
async def test_stop_ends_both_even_where_one_waits() -> None:
    engine = ScriptedEngine(lambda prompt: LONG, tokens_per_s=50, max_num_requests=1)
    running = duel(engine, engine)
    phases = set()
    async for a, b in running.updates():
        phases.add((a.phase, b.phase))
        if ("writing", "waiting") in phases:
            running.stop()
    assert ("writing", "waiting") in phases
    assert (a.phase, b.phase) == ("done", "done")
    assert is_idle(engine.stats())
    engine.close()


@pytest.mark.asyncio
async def test_what_cannot_start_on_one_side_runs_on_none() -> None:
    roomy, narrow = ScriptedEngine(lambda prompt: LONG, tokens_per_s=50), ScriptedEngine(context_length=10)
    with pytest.raises(InvalidRequest, match="allows at most 9"):
        duel(roomy, narrow)
    assert is_idle(roomy.stats())
    assert roomy.stats().num_aborted == 1
    narrow.close()
    roomy.close()


@pytest.mark.asyncio
async def test_one_side_fails_and_the_other_goes_on() -> None:
    bad = ScriptedEngine(failure=lambda prompt: EngineError("out of luck"))
    good = ScriptedEngine()
    running = duel(bad, good)
    async for pair in running.updates():
        last = pair
    assert [answer.phase for answer in last] == ["failed", "done"]
    assert [kept is None for kept in running.kept] == [True, False]
    bad.close()
    good.close()
