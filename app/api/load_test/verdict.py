"""What a scenario found, and what the server says of itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

SECONDS_TO_SETTLE = 30.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`facts` are printed beside the result."""

    name: str
    passed: bool
    facts: dict[str, Any]

    def __str__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {facts}"


async def settled(client: httpx.AsyncClient) -> dict[str, Any]:
    """The counts of the default model's engine once nothing runs or waits there any more.

    Raises:
        TimeoutError: something goes on running.
    """
    async with asyncio.timeout(SECONDS_TO_SETTLE):
        while True:
            stats: dict[str, Any] = (await client.get("/health")).json()["models"][0]["stats"]
            if not stats["num_running"] and not stats["num_waiting"]:
                return stats
            await asyncio.sleep(0.1)
