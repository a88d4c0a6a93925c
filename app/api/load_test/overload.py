"""More clients than the server takes: every reply is 200 or 429, and a refusal is quick."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import httpx

from app.api.load_test.verdict import Verdict, settled
from app.api.load_test.wire import Wire

SLOWEST_REFUSAL_S = 0.1


async def overload(client: httpx.AsyncClient, *, clients: int, seconds: float, tokens: int) -> Verdict:
    """`clients` at once ask again and again; they should be four times what runs and waits together."""
    statuses: Counter[int] = Counter()
    refusals: list[float] = []
    end = time.perf_counter() + seconds

    async def ask_again_and_again(place: int) -> None:
        await asyncio.sleep(place / clients)  # clients do not come in the same instant
        number = 0
        async with Wire(client) as wire:
            while time.perf_counter() < end:
                number += 1
                body = {"prompt": f"{place} {number}", "max_tokens": tokens, "ignore_eos": True}
                began = time.perf_counter()
                status = await wire.post("/v1/completions", body)
                statuses[status] += 1
                if status == 429:
                    refusals.append(time.perf_counter() - began)
                    await asyncio.sleep(1.0)  # what Retry-After says at least

    await asyncio.gather(*map(ask_again_and_again, range(clients)))
    await settled(client)
    refusals.sort()
    within = {
        f"refused within, {name}:": f"{1000 * refusals[int(share * (len(refusals) - 1))]:.1f} ms"
        for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99), ("slowest", 1.0))
        if refusals
    }
    return Verdict(
        "overload",
        set(statuses) == {200, 429} and refusals[-1] < SLOWEST_REFUSAL_S,
        {**{f"{status}:": count for status, count in sorted(statuses.items())}, **within},
    )
