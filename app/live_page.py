"""What a page shows while one of its events runs.

A Gradio handler that yields has all of its event's outputs prepared anew at every update: a conversation of a hundred
turns takes 16 ms, and even an output that is left out a new component. So handlers that follow an answer return once,
at its end, and send what changes meanwhile through a `LivePage`: at first the outputs as a whole, as Gradio would, then
only edits, in the form in which Gradio's own pages are told of changes.

All that is used of Gradio 6.31 beyond its documentation is in this file and in `app.light_blocks`;
`tests/app/test_live_page.py` and `tests/app/test_light_blocks.py` hold Gradio to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from typing import Any, Literal, TypeAlias

import gradio as gr
from gradio.context import LocalContext
from gradio.server_messages import ProcessGeneratingMessage

from app.updates import UNCHANGED, Updates

Edit: TypeAlias = list[Any]
"""`["append", path, text]` or `["replace", path, value]`: what is at the path, from the output's value on, changes."""

LONGEST_OPENING_S = 10.0
"""A browser opens its stream of updates at once; who has not in this time has closed the tab."""
BETWEEN_LOOKS_S = 0.005


class LivePage:
    """The page whose event runs now; to be made in the event's handler, which must be a coroutine."""

    def __init__(self) -> None:
        blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
        self._blocks: Any = blocks
        self._queue: Any = None
        self._event: Any = None
        if blocks is not None:
            self._queue = blocks._queue
            self._event = self._queue.event_ids_to_events.get(event_id)
        self._shown: set[int] | None = None  # places of the outputs that the page has as a whole

    @property
    def is_open(self) -> bool:
        """Whether somebody still looks: Gradio notices at once when a tab's stream of updates ends."""
        return self._event is not None and self._event.alive

    async def opened(self) -> bool:
        """Wait until the tab reads its stream of updates; `False` if it does not, since it was closed.

        Between the press of a button and that moment nobody would notice that the tab is closed, so nothing is to be
        asked of an engine before.
        """
        end = time.monotonic() + LONGEST_OPENING_S
        while self.is_open and time.monotonic() < end:
            # Gradio has put in what begins every event; an empty queue was read.
            if self._queue.pending_messages_per_session[self._event.session_hash].empty():
                return True
            await asyncio.sleep(BETWEEN_LOOKS_S)
        return False

    async def show(self, updates: Updates) -> None:
        """Whole new values, also of states, as if the handler had yielded them; to a closed tab nothing is sent."""
        if not self.is_open:
            return
        outputs = self._event.fn.outputs
        plain = [_plain(value) for value in await self._prepared(updates)]
        given = {place for place, output in enumerate(outputs) if output in updates}
        changed = [output._id for output in updates if isinstance(output, gr.State)]
        if self._shown is None:
            data: list[Any] = plain
        else:
            data = [_whole(value) if place in given | self._shown else [] for place, value in enumerate(plain)]
        self._shown = given
        self._send(data, changed)

    def edit(self, edits: Mapping[Any, Sequence[Edit]]) -> None:
        """Change parts of outputs whose values are as last shown or edited; all others stay as they are.

        Raises:
            ValueError: the value of one of them is not known to the page.
        """
        if not self.is_open:
            return
        outputs = self._event.fn.outputs
        places = {outputs.index(output): list(changes) for output, changes in edits.items()}
        if self._shown is None or not self._shown.issuperset(places):
            raise ValueError("an output can be edited only if it was shown, and edited every time since then")
        forgotten = self._shown - places.keys()
        data = [places.get(place, _whole(UNCHANGED) if place in forgotten else []) for place in range(len(outputs))]
        self._shown = set(places)
        self._send(data, [])

    async def _prepared(self, updates: Updates) -> list[Any]:
        """What Gradio makes of a handler's updates: one value an output. It also keeps them on the server's side."""
        session = self._queue.server_app.state_holder[self._event.session_hash]
        outside = copy_context()  # inside a handler, a component that is made is only the update of another one
        outside.run(LocalContext.in_event_listener.set, False)
        preparing = self._blocks.postprocess_data(self._event.fn, dict(updates), session)
        values: list[Any] = await asyncio.get_running_loop().create_task(preparing, context=outside)
        return values

    def _send(self, data: list[Any], changed_states: list[int]) -> None:
        output = {"data": data, "is_generating": True, "changed_state_ids": changed_states}
        self._queue.send_message(self._event, ProcessGeneratingMessage(output=output, success=True))


def text_edits(before: str, now: str, path: Sequence[str | int] = ()) -> list[Edit]:
    """From one text to the next."""
    if now == before:
        return []
    how: Literal["append", "replace"] = "append" if now.startswith(before) else "replace"
    return [[how, list(path), now[len(before) :] if how == "append" else now]]


class LastMessage:
    """The last message of a chatbot as the page has it, so that only what changes in it is sent.

    Args:
        messages: as the chatbot was given them; their parts are texts.
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self._place = len(messages) - 1
        self._texts = _texts(messages[-1])

    def edits(self, message: Mapping[str, Any]) -> list[Edit]:
        """To this one, which has as many parts."""
        texts = _texts(message)
        found = [
            edit
            for part, (before, now) in enumerate(zip(self._texts, texts, strict=True))
            for edit in text_edits(before, now, (self._place, "content", part, "text"))
        ]
        self._texts = texts
        return found


def _texts(message: Mapping[str, Any]) -> list[str]:
    return [part["text"] for part in message["content"]]


def _whole(value: Any) -> list[Edit]:
    return [["replace", [], value]]


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return value.model_dump() if hasattr(value, "model_dump") else value
