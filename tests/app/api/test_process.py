"""The whole process: starting, ending, and an engine that fails (`python -m app` on the bundled checkpoint)."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from openai import APIError, OpenAI

from app.api.load_test.__main__ import main as load_test

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LONGEST_S = 120  # to start or to end: other programs may use the machine
CHECKPOINT = ("--checkpoint", "model/demo/persimmon-demo")


@contextmanager
def program(*options: str, faults: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running program and its address, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *CHECKPOINT, "--port", "0", "--device", "cpu", "--no-page", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PERSIMMON_TEST_FAULTS": faults},
    )
    guard = threading.Timer(2 * LONGEST_S, process.kill)
    guard.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if ready := re.match(r"Ready: (http://\S+)", line):
                break
        else:
            pytest.fail(f"it ended before it was ready: {process.stderr.read() if process.stderr else ''}")
        yield process, ready.group(1)
    finally:
        guard.cancel()
        process.kill()
        process.communicate()


def client_of(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="x", max_retries=0)


def long_stream(client: OpenAI, tokens: int) -> Iterator[str]:
    stream = client.completions.create(
        model="persimmon-demo", prompt="a", max_tokens=tokens, stream=True, extra_body={"ignore_eos": True}
    )
    for chunk in stream:
        yield chunk.choices[0].text


def test_sigterm_lets_streams_finish_and_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--server", shlex.join([*CHECKPOINT, "--device", "cpu"]), "--streams", "4", "--tokens", "100"]
    assert load_test(["sigterm", *options, "--output", str(tmp_path)]) == 0
    found = capsys.readouterr().out
    assert found.startswith("pass  sigterm: streams that came to their end: 4 of 4, a new request's status: 503, exit")
    page = (tmp_path / "README.md").read_text()
    assert "- models: persimmon-demo (cpu, float32)\n" in page
    assert "\n| sigterm | yes | " in page


def test_failing_batches_fail_their_requests_only_and_sigterm_cuts_what_takes_too_long() -> None:
    with program("--drain-timeout", "0.2", faults="oom@2,error@4") as (process, address):
        statuses = [
            httpx.post(f"{address}/v1/completions", json={"prompt": "x", "max_tokens": 1}).status_code for _ in range(5)
        ]
        assert statuses == [200, 500, 200, 500, 200]
        stats = httpx.get(f"{address}/health").json()["models"][0]["stats"]
        assert stats["num_free_blocks"] == stats["num_usable_blocks"]
        stream = long_stream(client_of(address), 2000)
        next(stream)
        process.send_signal(signal.SIGTERM)
        with pytest.raises((APIError, httpx.HTTPError)):
            list(stream)
        assert process.wait(LONGEST_S) == 0


@pytest.mark.parametrize(("fault", "status"), [("fatal", 1), ("stuck", 70)])
def test_a_lost_engine_ends_the_process(fault: str, status: int) -> None:
    with program("--step-timeout", "1", faults=f"{fault}@1") as (process, address):
        try:
            reply = httpx.post(f"{address}/v1/completions", json={"prompt": "x", "max_tokens": 1}, timeout=30)
            assert reply.status_code in (500, 503)
        except httpx.HTTPError:
            assert fault == "stuck"
        assert process.wait(LONGEST_S) == status


def test_it_answers_while_it_loads() -> None:
    from app.__main__ import _listen

    with _listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--port", str(port), "--device", "cpu", "--no-page"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        seen = []
        deadline = time.perf_counter() + LONGEST_S
        while time.perf_counter() < deadline and (not seen or seen[-1] != 200):
            try:
                seen.append(httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=30).status_code)
            except httpx.ConnectError:
                time.sleep(0.02)
        assert set(seen) == {503, 200}
        models = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()["data"]
        assert [model["id"] for model in models] == ["persimmon-demo", "mpt-demo", "llama-demo"]
        assert seen == sorted(seen, reverse=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_S) == 0
    finally:
        process.kill()
        process.communicate()
