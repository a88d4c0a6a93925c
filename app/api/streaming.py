"""Answers as server-sent events, and several of the engine's streams as one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.admission import Ticket
from app.api.errors import ApiError, ClientGone, from_engine
from app.api.request_log import logger, note
from app.api.running import for_client
from model.interface import CompletionStream, EngineError, StreamChunk

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would collect the events
}


async def merged(streams: Sequence[CompletionStream]) -> AsyncGenerator[tuple[int, StreamChunk], None]:
    """Chunks of all streams as they come, each with its stream's place; all streams are aborted when it is left."""
    try:
        if len(streams) == 1:
            async for chunk in streams[0]:
                yield 0, chunk
            return
        chunks: asyncio.Queue[tuple[int, StreamChunk | BaseException]] = asyncio.Queue()

        async def pump(place: int) -> None:
            try:
                async for chunk in streams[place]:
                    chunks.put_nowait((place, chunk))
            except EngineError as error:
                chunks.put_nowait((place, error))

        tasks = [asyncio.ensure_future(pump(place)) for place in range(len(streams))]
        try:
            num_open = len(streams)
            while num_open:
                place, event = await chunks.get()
                if isinstance(event, BaseException):
                    raise event
                num_open -= event.completion is not None
                yield place, event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for stream in streams:
            stream.abort()


class EventStream(Response):
    """A reply of server-sent events, ended by `[DONE]`.

    An error before the first event is an ordinary error reply; one after it is an event in OpenAI's schema, which its
    clients raise, and the end.

    Args:
        events: what to send, each as JSON; closed when the reply has ended, whichever way.
        ticket: left at the end.
        prompt_name: the field the prompt came in, for errors.
    """

    def __init__(
        self,
        events: AsyncGenerator[dict[str, Any], None],
        *,
        ticket: Ticket,
        timeout_s: float,
        prompt_name: str = "prompt",
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._ticket = ticket
        self._timeout_s = timeout_s
        self._prompt_name = prompt_name
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await for_client(receive, self._send_all(send), timeout_s=self._timeout_s)
        except ClientGone:
            note(scope, outcome="client gone")
        except ApiError as error:
            await self._fail(error, scope, receive, send)
        except EngineError as error:
            await self._fail(from_engine(error, prompt_name=self._prompt_name), scope, receive, send)
        except OSError:  # the connection broke while it was written to
            note(scope, outcome="client gone")
        except Exception:
            logger.exception("a stream failed")
            failure = ApiError(500, "the server failed on this request: see its log", kind="server_error")
            await self._fail(failure, scope, receive, send)
        finally:
            self._ticket.leave()

    async def _send_all(self, send: Send) -> None:
        try:
            async for event in self._events:
                await self._send(send, json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False))
            await self._send(send, "[DONE]")
            await send({"type": "http.response.body", "body": b""})
        finally:
            await self._events.aclose()

    async def _send(self, send: Send, data: str) -> None:
        if not self._started:
            self._started = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

    async def _fail(self, error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
        note(scope, outcome=error.message)
        if not self._started:
            await error.response()(scope, receive, send)
            return
        await self._send(send, json.dumps(error.body))
        await send({"type": "http.response.body", "body": b""})
