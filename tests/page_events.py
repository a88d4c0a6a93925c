"""The events of pages as a browser's tab sends them, over HTTP: for tests of many tabs, and of tabs that are closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class PageEvent:
    """An event of a page.

    Attributes:
        number: by which the server knows it. values: its inputs' first values. places: of inputs, by their `elem_id`.
    """

    number: int
    values: list[Any]
    places: dict[str, int] = field(default_factory=dict)

    def with_values(self, **values: Any) -> list[Any]:
        """The inputs' values, some of them others; names are `elem_id`s with `_` for `-`."""
        changed = list(self.values)
        for name, value in values.items():
            changed[self.places[name.replace("_", "-")]] = value
        return changed


async def event_of(client: httpx.AsyncClient, elem_id: str, name: str) -> PageEvent:
    """The event `name` of a component, with its inputs' first values."""
    config = (await client.get("/config")).raise_for_status().json()
    components = {one["id"]: one["props"] for one in config["components"]}
    for place, event in enumerate(config["dependencies"]):
        if any(name == kind and components[target].get("elem_id") == elem_id for target, kind in event["targets"]):
            places = {components[one].get("elem_id") or str(one): n for n, one in enumerate(event["inputs"])}
            values = [components[one].get("value") for one in event["inputs"]]
            return PageEvent(event.get("id", place), values, places)
    raise AssertionError(f"{elem_id} has no event {name}")


async def press(client: httpx.AsyncClient, session: str, number: int, values: list[Any]) -> None:
    """Send an event, as a tab does before it opens its stream of updates."""
    asked = {"data": values, "fn_index": number, "session_hash": session, "event_data": None, "trigger_id": None}
    (await client.post("/gradio_api/queue/join", json=asked)).raise_for_status()


async def messages(client: httpx.AsyncClient, session: str) -> AsyncIterator[dict[str, Any]]:
    """What the server sends to a tab, as it comes, to the event's end."""
    async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                message = json.loads(line[6:])
                yield message
                if message["msg"] == "process_completed":
                    assert message["success"], line
                    return


async def run(client: httpx.AsyncClient, session: str, number: int, values: list[Any]) -> list[dict[str, Any]]:
    """All messages of an event from its press to its end."""
    await press(client, session, number, values)
    return [message async for message in messages(client, session)]


async def at_once(client: httpx.AsyncClient, session: str, number: int, values: list[Any]) -> list[Any]:
    """What the outputs of an event become that does not wait in a queue."""
    asked = {"data": values, "fn_index": number, "session_hash": session, "event_data": None, "trigger_id": None}
    reply = (await client.post("/gradio_api/run/predict", json=asked)).raise_for_status()
    data: list[Any] = reply.json()["data"]
    return data


async def close_soon(client: httpx.AsyncClient, session: str, seconds: float) -> None:
    """Read a tab's stream of updates for a while, then leave it as a closed tab does."""

    async def read() -> None:
        async for _ in messages(client, session):
            pass

    task = asyncio.create_task(read())
    try:
        await asyncio.sleep(seconds)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
