"""Updates that are sent around Gradio's own way: what a page gets, and who notices that nobody looks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import gradio as gr
import httpx
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from gradio_client.client import Client
from page_events import PageEvent, close_soon, event_of, messages, press, run

import app.live_page
from app.live_page import LastMessage, LivePage, text_edits


class Noted:
    """A page with one button, and what its handler noticed."""

    def __init__(self) -> None:
        self.opened: list[bool] = []
        self.closed_at = 0.0
        self.states: list[object] = []
        with gr.Blocks() as self.blocks:
            self.word = gr.Textbox("", elem_id="word")
            self.chat = gr.Chatbot([], elem_id="chat")
            self.state = gr.State("first")
            button = gr.Button("Go", elem_id="go")
            button.click(self.go, [self.word, self.state], [self.chat, self.word, self.state], concurrency_limit=None)

    async def go(self, word: str, state: str) -> dict[Any, Any]:
        page = LivePage()
        self.states.append(state)
        self.opened.append(await page.opened())
        if not self.opened[-1]:
            return gr.skip()
        shown = [message("user", "?"), message("assistant", "a", "facts")]
        await page.show({self.chat: shown, self.word: "begun", self.state: "second"})
        last = LastMessage(shown)
        page.edit({self.chat: last.edits(message("assistant", "ab", "more"))})
        page.edit({self.chat: last.edits(message("assistant", "ab", "more"))})
        await page.show({self.word: "late"})
        with pytest.raises(ValueError, match="only if it was shown"):
            page.edit({self.chat: []})
        while word == "wait" and page.is_open:
            await asyncio.sleep(0.01)
        self.closed_at = time.perf_counter()
        return {self.chat: [message("user", "?"), message("assistant", "abc", "done")]}


def message(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}


@pytest.fixture(scope="module")
def noted() -> Noted:
    return Noted()


@pytest.fixture(scope="module")
def address(noted: Noted) -> Iterator[str]:
    noted.blocks.queue(api_open=False)
    served = gr.mount_gradio_app(FastAPI(), noted.blocks, path="/", ssr_mode=False, run_history=False)
    server = uvicorn.Server(uvicorn.Config(served, port=0, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest_asyncio.fixture
async def client(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=20) as client:
        yield client


async def the_button(client: httpx.AsyncClient) -> PageEvent:
    return await event_of(client, "go", "click")


@pytest.mark.asyncio
async def test_a_page_gets_whole_values_then_edits_then_the_end(client: httpx.AsyncClient, noted: Noted) -> None:
    button = await the_button(client)
    got = await run(client, "whole", button.number, button.values)
    sent = [one["output"] for one in got if one["msg"] == "process_generating"]
    first, edited, same, later = (one["data"] for one in sent)
    assert [part["text"] for part in first[0][1]["content"]] == ["a", "facts"]
    assert (first[1], first[2]) == ("begun", None)
    assert sent[0]["changed_state_ids"] == [noted.state._id]
    changes = [["append", [1, "content", 0, "text"], "b"], ["replace", [1, "content", 1, "text"], "more"]]
    nothing = ["replace", [], {"__type__": "update"}]
    assert edited == [changes, [nothing], [nothing]]
    assert same == [[], [], []]
    assert later == [[nothing], [["replace", [], "late"]], []]
    (end,) = (one["output"]["data"] for one in got if one["msg"] == "process_completed")
    assert [part["text"] for part in end[0][1]["content"]] == ["abc", "done"]

    # Gradio's own client puts the edits together as its pages do.
    job = Client(str(client.base_url), verbose=False).submit("", fn_index=button.number)
    job.result(timeout=20)
    texts = [[part["text"] for part in output[0][1]["content"]] for output in job.outputs()[:3]]
    assert texts == [["a", "facts"], ["ab", "more"], ["ab", "more"]]


@pytest.mark.asyncio
async def test_a_state_that_was_shown_is_there_for_the_next_event(client: httpx.AsyncClient, noted: Noted) -> None:
    button = await the_button(client)
    noted.states.clear()
    for _ in range(2):
        await run(client, "twice", button.number, button.values)
    assert noted.states == ["first", "second"]


@pytest.mark.asyncio
async def test_a_tab_closed_while_it_is_answered_is_noticed_at_once(client: httpx.AsyncClient, noted: Noted) -> None:
    button = await the_button(client)
    await press(client, "closed", button.number, button.with_values(word="wait"))
    await close_soon(client, "closed", 0.3)
    left = time.perf_counter()
    while noted.closed_at < left - 0.3:
        assert time.perf_counter() < left + 1
        await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_tab_closed_before_its_stream_was_open_never_opens(
    client: httpx.AsyncClient, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.live_page, "LONGEST_OPENING_S", 0.5)
    button = await the_button(client)
    noted.opened.clear()
    await press(client, "never", button.number, button.values)
    await asyncio.sleep(0.3)
    assert noted.opened == []
    await asyncio.sleep(0.7)
    assert noted.opened == [False]
    assert [one["msg"] async for one in messages(client, "never")][-1] == "process_completed"


def test_only_what_changes_in_a_text_is_sent() -> None:
    assert text_edits("a", "a") == []
    assert text_edits("a", "ab", ("x", 1)) == [["append", ["x", 1], "b"]]
    assert text_edits("ab", "a") == [["replace", [], "a"]]
