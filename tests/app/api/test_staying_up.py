"""Clients that go away, answers that take too long, and the end of the server."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from app.api.options import ApiOptions
from app.api.request_log import JsonFormatter, TextFormatter

Serve = Callable[..., Any]
MODEL = "scripted-engine"
SLOW = {"answer": lambda prompt: "word " * 200, "tokens_per_s": 100}


def open_request(address: str, path: str, body: Any) -> socket.socket:
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_client_that_goes_away_frees_its_blocks(serve: Serve, path: str, stream: bool) -> None:
    served = serve(**SLOW)
    before = served.engine.stats().num_free_blocks
    body = {"prompt": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 900, "stream": stream, "n": 2}
    connection = open_request(served.address, path, body)
    served.engine.wait_for(lambda stats: stats.num_running == 2)
    if stream:
        assert b"200 OK" in connection.recv(4096)
    # What the kernel sends when a process is killed with unread data.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    seconds = served.engine.wait_for(lambda stats: stats.num_running == 0, timeout=2)
    assert seconds < 0.5
    served.wait_idle()
    assert served.engine.stats().num_free_blocks == before
    assert served.engine.stats().num_aborted == 2


def test_a_client_that_goes_away_while_it_waits_is_forgotten(serve: Serve) -> None:
    served = serve(max_num_requests=1, **SLOW)
    first = open_request(served.address, "/v1/completions", {"prompt": "x", "max_tokens": 900, "stream": True})
    served.engine.wait_for(lambda stats: stats.num_running == 1)
    second = open_request(served.address, "/v1/completions", {"prompt": "y", "max_tokens": 900, "stream": True})
    served.engine.wait_for(lambda stats: stats.num_waiting == 1)
    second.close()
    served.engine.wait_for(lambda stats: stats.num_waiting == 0)
    assert served.engine.stats().num_running == 1
    first.close()
    served.wait_idle()


def test_an_answer_that_takes_too_long_is_cut(serve: Serve) -> None:
    served = serve(options=ApiOptions(request_timeout_s=0.3), **SLOW)
    client = served.openai()
    with pytest.raises(openai.APIStatusError) as error:
        client.completions.create(model=MODEL, prompt="x", max_tokens=900)
    assert error.value.status_code == 408
    stream = iter(client.completions.create(model=MODEL, prompt="x", max_tokens=900, stream=True))
    assert next(stream).choices[0].text.startswith("w")
    with pytest.raises(openai.APIError, match="longer than"):
        list(stream)
    served.wait_idle()
    assert served.engine.stats().num_aborted == 2


def test_while_the_server_ends_nothing_new_is_taken_and_streams_finish(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "word " * 10, tokens_per_s=100)
    stream = served.openai().completions.create(model=MODEL, prompt="x", max_tokens=50, stream=True)
    seen = next(iter(stream)).choices[0].text
    served.service.drain()
    for path in ("/health", "/health/ready"):
        reply = httpx.get(f"{served.address}{path}")
        assert (reply.status_code, reply.json()["ready"]) == (503, False)
    assert httpx.get(f"{served.address}/health/live").status_code == 200
    with pytest.raises(openai.InternalServerError) as error:
        served.openai().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])
    assert error.value.status_code == 503
    assert error.value.response.headers["retry-after"]
    for chunk in stream:
        seen += chunk.choices[0].text
    assert seen == "word " * 10


def test_a_closed_engine_is_a_503(serve: Serve) -> None:
    served = serve()
    served.engine.close()
    assert served.post("/v1/completions", {"prompt": "x"}).status_code == 503
    assert served.post("/v1/completions", {"prompt": "x", "stream": True}).status_code == 503


@pytest.mark.slow
def test_many_requests_with_random_aborts_leave_nothing(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "word " * 4, tokens_per_s=400, max_num_requests=16)
    before = served.engine.stats().num_free_blocks
    statuses: list[int] = []

    async def run() -> None:
        async with httpx.AsyncClient(base_url=served.address, timeout=30) as client:

            async def one(place: int) -> None:
                body = {"prompt": f"p{place}", "max_tokens": 20, "stream": place % 2 == 0}
                asked = asyncio.ensure_future(client.post("/v1/completions", json=body))
                if place % 5 == 0:
                    await asyncio.sleep(0.001 * (place % 30))
                    asked.cancel()
                    await asyncio.gather(asked, return_exceptions=True)
                else:
                    statuses.append((await asked).status_code)

            await asyncio.gather(*(one(place) for place in range(200)))

    asyncio.run(run())
    assert statuses == [200] * 160
    served.wait_idle()
    assert served.engine.stats().num_free_blocks == before


def test_every_request_is_logged_with_its_id_and_without_its_words(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(answer=lambda prompt: " confidential")
    with caplog.at_level(logging.INFO, logger="app.api"):
        body = {"prompt": "private words", "max_tokens": 20}
        headers = {"X-Request-Id": "mine-1"}
        reply = httpx.post(f"{served.address}/v1/completions", json=body, headers=headers)
        assert reply.headers["x-request-id"] == "mine-1"
        bad = httpx.post(f"{served.address}/v1/completions", json=body | {"n": 0}, headers={"X-Request-Id": "a b"})
        assert re.fullmatch(r"req_[0-9a-f]{32}", bad.headers["x-request-id"])
        deadline = time.perf_counter() + 5  # a request is logged after its last byte was sent
        records: list[logging.LogRecord] = []
        while len(records) < 2 and time.perf_counter() < deadline:
            records = [record for record in caplog.records if record.name == "app.api"]
            time.sleep(0.01)
    assert len(records) == 2
    lines = [formatter().format(record) for formatter in (JsonFormatter, TextFormatter) for record in records]
    first = json.loads(lines[0])
    assert (first["request_id"], first["status"], first["path"]) == ("mine-1", 200, "/v1/completions")
    assert first["prompt_tokens"] == len("private words")
    assert json.loads(lines[1])["status"] == 400
    for line in lines:
        assert "private" not in line
        assert "confidential" not in line
        assert "\n" not in line


def test_metrics_count_requests_and_tokens(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "abc")
    served.post("/v1/completions", {"prompt": "x", "max_tokens": 20})
    served.post("/v1/completions", {"prompt": "x", "n": 0})
    httpx.get(f"{served.address}/v1/{'x' * 50}")
    deadline = time.perf_counter() + 5
    text = ""
    while 'path="other"' not in text and time.perf_counter() < deadline:
        text = httpx.get(f"{served.address}/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['api_requests_total{path="/v1/completions",status="200"}'] == "1"
    assert lines['api_requests_total{path="/v1/completions",status="400"}'] == "1"
    assert lines['api_requests_total{path="other",status="404"}'] == "1"
    assert lines['api_request_duration_seconds_bucket{path="/v1/completions",le="+Inf"}'] == "2"
    assert lines['engine_generated_tokens_total{model="scripted-engine"}'] == "4"
    assert lines['engine_requests_finished_total{model="scripted-engine"}'] == "1"
    for name in {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}:
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        assert f"# TYPE {family} " in text
