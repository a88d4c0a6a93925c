"""Work for a client that ends when the client goes away or its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from app.api.errors import ClientGone, timed_out

Result = TypeVar("Result")


async def for_client(receive: Receive, work: Coroutine[Any, Any, Result], *, timeout_s: float) -> Result:
    """The result of `work`, which is cancelled as soon as nobody waits for it: cancelling aborts what it asked of the
    engine. The request's body must have been read.

    Raises:
        ClientGone: the connection closed first.
        ApiError: the time was over first.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_closed(receive))
    try:
        await asyncio.wait({task, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientGone
        raise timed_out(timeout_s)
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
