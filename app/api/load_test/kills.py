"""Clients killed in the middle of a stream: what they held is free again."""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.parse import urlsplit

import httpx

from app.api.load_test.verdict import Verdict, settled

_CLIENT = """
import socket, sys
host, port, request = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
connection = socket.create_connection((host, port))
connection.sendall(request)
connection.recv(64)
print("reading", flush=True)
while connection.recv(4096): pass
"""


async def kills(client: httpx.AsyncClient, *, clients: int, api_key: str | None) -> Verdict:
    """One after the other starts to read a long answer and is killed."""
    before = (await settled(client))["num_free_blocks"]
    body = json.dumps({"prompt": "a long answer", "max_tokens": 4000, "ignore_eos": True, "stream": True})
    key = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
    request = (
        f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{key}"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    address = urlsplit(str(client.base_url))
    num_read = 0
    for _ in range(clients):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _CLIENT, str(address.hostname), str(address.port or 80), request),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        num_read += await process.stdout.readline() == b"reading\n"
        process.kill()
        await process.wait()
    after = (await settled(client))["num_free_blocks"]
    return Verdict(
        "kills",
        num_read == clients and after == before,
        {"killed while reading": num_read, "free blocks before": before, "and after": after},
    )
