"""Answers as a browser's tab asks for them, over HTTP: what is sent while they are written, and when it is closed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from page_events import close_soon, event_of, press, run
from scripted_engine import ScriptedEngine

from model.interface import EngineStats

BOXES = {"chat": ("message", "submit"), "arena": ("arena-message", "submit"), "tokens": ("tokens-run", "click")}
BEGIN = {"chat": {"message": "Hello?", "search": ""}, "arena": {"arena_message": "Hello?"}, "tokens": {}}
WRITTEN = {"tokens_how": "written by the model"}


def is_idle(stats: EngineStats) -> bool:
    return stats.num_running == 0 and stats.num_waiting == 0


@pytest.fixture(scope="module")
def app(serve_app: Callable[..., str]) -> Iterator[tuple[ScriptedEngine, str]]:
    """An engine with two places, and the address of its app, in which each test has tabs of its own."""
    engine = ScriptedEngine(lambda prompt: "word " * 300, max_num_requests=2, context_length=60_000)
    yield engine, serve_app(engine)
    engine.close()


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("page", list(BOXES))
@pytest.mark.parametrize("moment", ["before the stream", "writing", "reading", "queued"])
async def test_a_closed_tab_frees_its_places_within_a_second(
    app: tuple[ScriptedEngine, str], page: str, moment: str
) -> None:
    engine, address = app
    engine.ttft_s, engine.tokens_per_s = (30.0 if moment == "reading" else 0.0), 20
    asked_before = len(engine.requests)
    tab = f"{page} {moment}"
    async with httpx.AsyncClient(base_url=address, timeout=20) as client:
        event = await event_of(client, *BOXES[page])
        values = event.with_values(**(BEGIN[page] | (WRITTEN if page == "tokens" else {})))
        others = []
        if moment == "queued":
            for number in range(1 if page == "arena" else 2):  # the arena takes two places
                await press(client, f"{tab} {number}", event.number, values)
                others.append(asyncio.create_task(close_soon(client, f"{tab} {number}", 20.0)))
            await asyncio.to_thread(engine.wait_for, lambda stats: stats.num_running == 2)
        await press(client, tab, event.number, values)
        if moment == "before the stream":
            await asyncio.sleep(1)
            assert len(engine.requests) == asked_before
            return
        asked = asyncio.create_task(close_soon(client, tab, 20.0))
        expected = {"queued": lambda stats: stats.num_waiting > 0}
        await asyncio.to_thread(engine.wait_for, expected.get(moment, lambda stats: stats.num_running > 0))
        await asyncio.sleep(0.2)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        left = time.perf_counter()
        freed = is_idle if moment != "queued" else lambda stats: stats.num_waiting == 0
        await asyncio.to_thread(engine.wait_for, freed)
        assert time.perf_counter() - left < 1
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.to_thread(engine.wait_for, is_idle)


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("page", ["chat", "arena"])
async def test_an_update_is_as_long_as_what_changed(app: tuple[ScriptedEngine, str], page: str) -> None:
    """However long the conversation is: else a hundred turns would be sent again ten times a second."""
    engine, address = app
    engine.ttft_s, engine.tokens_per_s = 0.0, 100
    box = "message" if page == "chat" else "arena_message"
    async with httpx.AsyncClient(base_url=address, timeout=20) as client:
        event = await event_of(client, *BOXES[page])
        values = event.with_values(**(BEGIN[page] | {box: "x" * 50_000}))
        got = await run(client, f"{page} long", event.number, values)
    lengths = [len(json.dumps(one)) for one in got if one["msg"] == "process_generating"]
    assert len(lengths) > 5
    assert lengths[0] > 50_000
    assert max(lengths[1:]) < 5_000
