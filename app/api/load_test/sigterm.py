"""SIGTERM while streams run: the server stops taking requests, its streams end, and it ends with status 0."""

from __future__ import annotations

import asyncio
import json
import time
from asyncio.subprocess import Process

import httpx

from app.api.load_test.verdict import Verdict

LONGEST_S = 30.0 + 15.0  # the server's --drain-timeout, and what closing may take


async def sigterm(client: httpx.AsyncClient, *, process: Process, streams: int, tokens: int) -> Verdict:
    """`streams` answers of `tokens` tokens are being read when the server is told to end; `process` is the server's."""
    started = asyncio.Semaphore(0)

    async def read() -> bool:
        """Whether the stream came to its own end."""
        body = {"prompt": "a long answer", "max_tokens": tokens, "ignore_eos": True, "stream": True}
        async with client.stream("POST", "/v1/completions", json=body) as reply:
            is_first, last = True, ""
            async for line in reply.aiter_lines():
                if is_first:
                    started.release()
                is_first = False
                last = line or last
        return last == "data: [DONE]" and reply.status_code == 200

    tasks = [asyncio.ensure_future(read()) for _ in range(streams)]
    for _ in tasks:
        await started.acquire()
    began = time.perf_counter()
    process.terminate()
    refused = await _refusal(client)
    ended = sum(one is True for one in await asyncio.gather(*tasks, return_exceptions=True))
    status = await asyncio.wait_for(process.wait(), LONGEST_S)
    return Verdict(
        "sigterm",
        status == 0 and ended == streams and refused == 503,
        {
            "streams that came to their end:": f"{ended} of {streams}",
            "a new request's status:": refused,
            "exit status:": status,
            "ended after": f"{time.perf_counter() - began:.1f} s",
        },
    )


async def _refusal(client: httpx.AsyncClient) -> int:
    """The status of a request once the server is not ready any more.

    Raises:
        TimeoutError: it stays ready.
    """
    async with asyncio.timeout(LONGEST_S):
        while (await client.get("/health/ready")).status_code == 200:
            await asyncio.sleep(0.05)
    return (await client.post("/v1/completions", content=json.dumps({"prompt": "x"}))).status_code
