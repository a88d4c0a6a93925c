"""HTTP with as little work as it takes: a load that costs more than what it measures would measure itself."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self

import httpx


class Wire:
    """One connection that asks one thing at a time; leave its context to close it.

    Args:
        client: whose address and headers it has; plain HTTP only.

    Raises:
        OSError: the server cannot be reached, or goes away (in :meth:`post`).
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        url = client.base_url
        if url.scheme != "http":
            raise OSError(f"{url} is not plain http: give the server's own address")
        self._host, self._port = url.host, url.port or 80
        key = client.headers.get("authorization")
        self._head = f"Host: {self._host}\r\nContent-Type: application/json\r\n" + (
            f"Authorization: {key}\r\n" if key else ""
        )

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def post(self, path: str, body: Any) -> int:
        """The status of the reply, which has been read."""
        content = json.dumps(body)
        self._writer.write(
            f"POST {path} HTTP/1.1\r\n{self._head}Content-Length: {len(content)}\r\n\r\n{content}".encode()
        )
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0])
            await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise OSError(f"the reply broke off ({error})") from error
        return int(head.split(" ", 2)[1])
