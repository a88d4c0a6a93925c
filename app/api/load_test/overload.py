"""More clients than the server takes: every reply is 200 or 429, and a refusal is quick."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from typing import Any

import httpx

from app.api.load_test.verdict import Verdict, settled

SLOWEST_REFUSAL_S = 0.1


async def overload(client: httpx.AsyncClient, *, clients: int, seconds: float, tokens: int) -> Verdict:
    """`clients` at once ask again and again; they should be four times what runs and waits together."""
    statuses: Counter[int] = Counter()
    refusals: list[float] = []
    end = time.perf_counter() + seconds

    # A pool of hundreds of connections is slow by itself (httpcore looks at all of them for every request).
    context = ssl.create_default_context()
    options: dict[str, Any] = {
        "base_url": client.base_url,
        "headers": client.headers,
        "timeout": client.timeout,
        "verify": context,
    }

    async def ask(place: int) -> None:
        await asyncio.sleep(place / clients)  # clients do not come in the same instant
        async with httpx.AsyncClient(**options) as own:
            await ask_again_and_again(own, place)

    async def ask_again_and_again(own: httpx.AsyncClient, place: int) -> None:
        number = 0
        while time.perf_counter() < end:
            number += 1
            body = {"prompt": f"{place} {number}", "max_tokens": tokens, "ignore_eos": True}
            began = time.perf_counter()
            reply = await own.post("/v1/completions", json=body)
            statuses[reply.status_code] += 1
            if reply.status_code == 429:
                refusals.append(time.perf_counter() - began)
                await asyncio.sleep(1.0)  # what Retry-After says at least

    await asyncio.gather(*(ask(place) for place in range(clients)))
    await settled(client)
    refusals.sort()
    p95 = refusals[int(0.95 * (len(refusals) - 1))] if refusals else float("nan")
    return Verdict(
        "overload",
        set(statuses) <= {200, 429} and statuses[200] > 0 and statuses[429] > 0 and p95 < SLOWEST_REFUSAL_S,
        {**{f"{status}:": count for status, count in sorted(statuses.items())}, "refused within p95 s": round(p95, 4)},
    )
