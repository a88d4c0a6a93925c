"""Served APIs over scripted engines."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import httpx
import uvicorn
from openai import OpenAI
from scripted_engine import ScriptedEngine

from app.api.options import ApiOptions
from app.api.service import Service
from app.server import create_app
from model.interface import Engine


@dataclass
class Served:
    """A running server."""

    address: str
    engine: Any
    service: Service

    def openai(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.address}/v1", **({"api_key": "none", "max_retries": 0} | options))

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(f"{self.address}{path}", json=body, timeout=30)

    def wait_idle(self, timeout: float = 5.0) -> None:
        """Until nothing runs and no client is counted."""
        end = time.perf_counter() + timeout
        while time.perf_counter() < end:
            stats = self.engine.stats()
            if not (stats.num_running or stats.num_waiting or self.service.num_admitted):
                return
            time.sleep(0.01)
        raise TimeoutError(f"not idle: {self.engine.stats()}, {self.service.num_admitted} admitted")


@contextmanager
def serving() -> Iterator[Callable[..., Served]]:
    """Serves the API of an engine, and of others `beside` it, without the page, until it is left."""
    with ExitStack() as stack:

        def start(
            engine: Engine | None = None,
            options: ApiOptions | None = None,
            beside: Sequence[Engine] = (),
            **script: Any,
        ) -> Served:
            engine = ScriptedEngine(**script) if engine is None else engine
            app = create_app([engine, *beside], options, with_pages=False)
            server = uvicorn.Server(
                uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=1)
            )
            thread = threading.Thread(target=server.run, name="api-server")
            thread.start()

            def end() -> None:
                for one in (engine, *beside):
                    one.close()
                server.should_exit = True
                thread.join(10)
                assert not thread.is_alive(), "the server did not end"

            stack.callback(end)
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            return Served(f"http://127.0.0.1:{port}", engine, app.state.service)

        yield start


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """`serving`, until the test ends."""
    with serving() as start:
        yield start


@pytest.fixture(scope="module")
def refusing() -> Iterator[Served]:
    """One server for all tests of a module whose requests are refused: nothing of them reaches its engine."""
    with serving() as start:
        yield start()
