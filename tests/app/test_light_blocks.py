"""What is left out of Gradio's work: the page gets the same as without, and less is made for it."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from gradio.state_holder import SessionState
from page_events import event_of, run

from app.light_blocks import BETWEEN_LOOKS_S, LightBlocks
from app.updates import UNCHANGED, all_unchanged


class Page:
    """A few components in Blocks of one kind or the other, and one tab's session."""

    def __init__(self, kind: type[gr.Blocks]) -> None:
        with kind() as self.blocks:
            self.text = gr.Textbox("old")
            self.choice = gr.Radio(["a", "b"], label="Which")
            self.button = gr.Button("Go")
            self.state = gr.State(0)
            self.outputs = [self.text, self.choice, self.button, self.state]
            self.button.click(lambda: None, None, self.outputs)
        (self.event,) = self.blocks.fns.values()
        self.session = SessionState(self.blocks)

    async def sent(self, updates: Any) -> list[Any]:
        """What a page is sent of a handler's return value."""
        return list(await self.blocks.postprocess_data(self.event, updates, self.session))


Returned = Callable[[Page], Any]


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "returned",
    [
        lambda page: {page.text: "new", page.button: gr.update(visible=False)},
        lambda page: {page.button: gr.update(visible=True, interactive=False)},
        lambda page: {page.choice: gr.update(choices=["c"], value="c", visible=True)},
        lambda page: {page.text: gr.update(value="new"), page.state: 3},
        lambda page: {page.text: gr.update(interactive=None, visible=True)},
        lambda page: {page.text: gr.update(label="Label")},
        lambda page: {page.state: gr.update(value=2)},
        lambda page: {page.text: None},
        lambda page: all_unchanged(),
        lambda page: ("new", "a", gr.skip(), 3),
    ],
)
async def test_the_page_is_sent_what_gradio_sends(returned: Returned) -> None:
    light, plain = Page(LightBlocks), Page(gr.Blocks)
    assert await light.sent(returned(light)) == await plain.sent(returned(plain))
    assert light.session[light.state._id] == plain.session[plain.state._id]


@pytest.mark.asyncio
async def test_components_that_are_left_out_or_hidden_are_not_made_anew() -> None:
    page = Page(LightBlocks)
    session = page.session
    sent = await page.sent({page.text: "new", page.button: gr.update(visible=False)})
    assert sent == ["new", UNCHANGED, {"__type__": "update", "visible": False}, None]
    assert session[page.button._id] is page.button
    assert session[page.choice._id] is page.choice
    # What a handler's inputs are read by is kept: these are the choices there are now.
    await page.sent({page.choice: gr.update(choices=["c"], visible=True)})
    assert session[page.choice._id].choices == [("c", "c")]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_what_nothing_is_changed_by() -> None:
    page = Page(LightBlocks)
    assert await page.sent({}) == [UNCHANGED, UNCHANGED, UNCHANGED, None]
    with pytest.raises(ValueError, match="not specified as output"):
        await page.sent({page.text: "new", gr.Button("another", render=False): gr.update(visible=False)})


def test_the_names_of_the_queue_s_settings_are_gradio_s() -> None:
    source = inspect.getsource(gr.queueing)
    for name in ("sleep_when_free", "ANALYTICS_MAX_EVENTS", "ANAYLTICS_CACHE_FREQUENCY"):
        assert source.count(f"self.{name}") > 1, name  # where it is set, and where it is read


@pytest.mark.slow
@pytest.mark.asyncio
async def test_events_leave_no_statistics() -> None:
    with LightBlocks() as blocks:
        button = gr.Button("Go", elem_id="go")
        button.click(lambda: "Gone", None, button)
    blocks.queue(api_open=False)
    queue = blocks._queue
    assert queue.sleep_when_free == BETWEEN_LOOKS_S
    app = gr.mount_gradio_app(FastAPI(), blocks, path="/", ssr_mode=False, run_history=False)
    assert blocks._queue is queue
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(base_url=address, timeout=20) as client:
            event = await event_of(client, "go", "click")
            for number in range(3):
                await run(client, f"session{number}", event.number, event.values)
        assert len(queue.event_analytics) == 1
        assert queue.cached_event_analytics_summary == {"functions": {}}
    finally:
        server.should_exit = True
        thread.join(10)
