"""A server of the load test's own: started, and ended whatever happens."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

MAX_QUEUE = 16  # with the 64 answers written together: 80 come in, and 320 clients are four times as many
_READY = re.compile(rb"Ready: (http://\S+)")


@asynccontextmanager
async def own_server(options: Sequence[str]) -> AsyncIterator[tuple[Process, str]]:
    """The process and its address, once it is ready. `options` are further ones of `python -m app`.

    Raises:
        OSError: it ended before it was ready.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "--no-page", "--port", "0", "--max-queue", str(MAX_QUEUE), *options),
        stdout=PIPE,
        stderr=DEVNULL,
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            if ready := _READY.match(line):
                yield process, ready[1].decode()
                break
        else:
            raise OSError(f"the server ended with status {await process.wait()} before it was ready")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
