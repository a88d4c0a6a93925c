"""Many requests of which a fifth are given up at random moments: no block and no memory is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx
import psutil

from app.api.load_test.verdict import Verdict, settled

SHARE_ABORTED = 0.2
MOST_GROWTH = 0.05
WARM_UP = 0.1  # share of the requests sent before memory is looked at


async def aborts(client: httpx.AsyncClient, *, requests: int, at_once: int, pid: int | None, seed: int) -> Verdict:
    """`pid` is the server's process, whose memory is watched if it is on this machine."""
    source = random.Random(seed)
    plans = [(source.random() < SHARE_ABORTED, source.random() * 0.3, source.random() < 0.5) for _ in range(requests)]
    before = (await settled(client))["num_free_blocks"]
    statuses: Counter[int] = Counter()
    places = asyncio.Semaphore(at_once)

    async def one(place: int) -> None:
        aborted, after_s, stream = plans[place]
        body = {"prompt": f"request {place}", "max_tokens": 16, "ignore_eos": True, "stream": stream}
        async with places:
            asked = asyncio.ensure_future(client.post("/v1/completions", json=body))
            if aborted:
                await asyncio.wait({asked}, timeout=after_s)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            else:
                statuses[(await asked).status_code] += 1

    await _fill_cache(client, at_once=places)
    first = int(requests * WARM_UP)
    await asyncio.gather(*(one(place) for place in range(first)))
    memory = _memory(pid)
    await asyncio.gather(*(one(place) for place in range(first, requests)))
    after = (await settled(client))["num_free_blocks"]
    growth = None if memory is None else (_memory(pid) or 0) / memory - 1
    return Verdict(
        "aborts",
        set(statuses) == {200} and after == before and (growth is None or growth <= MOST_GROWTH),
        {
            **{f"{status}:": count for status, count in sorted(statuses.items())},
            "aborted": sum(aborted for aborted, _, _ in plans),
            "free blocks before": before,
            "and after": after,
            "memory": "not watched" if growth is None else f"{growth:+.1%}",
        },
    )


async def _fill_cache(client: httpx.AsyncClient, *, at_once: asyncio.Semaphore) -> None:
    """Write every block of the KV cache once: the system gives memory only when it is first written to."""
    model = (await client.get("/health")).json()["models"][0]
    length = model["context_length"] - 1

    async def ask(place: int) -> None:
        async with at_once:
            # Different first tokens, so that no prompt finds another's blocks.
            body = {"prompt": [place % 250, *([place // 250 % 250] * (length - 1))], "max_tokens": 1}
            (await client.post("/v1/completions", json=body)).raise_for_status()

    await asyncio.gather(*map(ask, range(-(-model["kv_cache_tokens"] // length))))


def _memory(pid: int | None) -> int | None:
    """Resident bytes."""
    return None if pid is None else int(psutil.Process(pid).memory_info().rss)
