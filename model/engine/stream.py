"""A running request as its caller sees it, from a thread or from an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self

from model.engine.request import Event
from model.interface import EngineError, StreamChunk


class RequestStream:
    """Chunks of one request; implements `model.interface.CompletionStream`. One reader at a time.

    Args:
        on_abort: called when the reader goes away before the end.
        place: its place in the engine's queue, from any thread.
    """

    def __init__(self, on_abort: Callable[[], None], place: Callable[[], int | None]) -> None:
        self._on_abort = on_abort
        self._place = place
        self._condition = threading.Condition()
        self._events: deque[Event] = deque()
        self._ended = False  # the last event has been delivered
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def deliver(self, event: Event) -> None:
        """Called by the engine's thread."""
        with self._condition:
            self._events.append(event)
            self._ended = not isinstance(event, StreamChunk) or event.completion is not None
            self._condition.notify_all()
            waiter = self._waiter
        if waiter is not None:
            loop, wake = waiter
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:
                self._on_abort()  # the reader's event loop has closed: nobody will read this

    def next_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        with self._condition:
            if not self._condition.wait_for(lambda: bool(self._events) or self._ended, timeout):
                return None
            if not self._events:
                raise StopIteration
            return self._take()

    async def anext_chunk(self, timeout: float | None = None) -> StreamChunk | None:
        wake = asyncio.Event()
        with self._condition:
            self._waiter = (asyncio.get_running_loop(), wake)
            ready = bool(self._events) or self._ended
        try:
            if not ready:
                await asyncio.wait_for(wake.wait(), timeout)
        except TimeoutError:
            return None
        finally:
            with self._condition:
                self._waiter = None
        with self._condition:
            if not self._events:
                raise StopAsyncIteration
            return self._take()

    def place(self) -> int | None:
        return self._place()

    def abort(self) -> None:
        if not self._ended:
            self._on_abort()

    def _take(self) -> StreamChunk:
        event = self._events.popleft()
        if isinstance(event, Exception):
            raise event
        if not isinstance(event, StreamChunk):
            raise EngineError(f"a stream got {type(event).__name__} instead of text: this is a bug, report it")
        return event

    def __iter__(self) -> Iterator[StreamChunk]:
        while True:
            try:
                chunk = self.next_chunk()
            except StopIteration:
                return
            if chunk is not None:
                yield chunk

    async def __aiter__(self) -> AsyncIterator[StreamChunk]:
        while True:
            try:
                chunk = await self.anext_chunk()
            except StopAsyncIteration:
                return
            if chunk is not None:
                yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
