"""Whatever a client sends, it gets an error in OpenAI's shape, and the engine has nothing left of it."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app.api.options import ApiOptions

Serve = Callable[..., Any]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hi"}]


def error_of(reply: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in error["message"]
    assert "\n" not in error["message"]
    return error


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (COMPLETIONS, {}, 422, "prompt"),
        (COMPLETIONS, {"prompt": 3}, 422, "prompt"),
        (COMPLETIONS, {"prompt": {"a": 1}}, 422, "prompt"),
        (COMPLETIONS, {"prompt": ["a", 3]}, 422, "prompt"),
        (COMPLETIONS, {"prompt": [True]}, 422, "prompt"),
        (COMPLETIONS, {"prompt": "x", "temperature": "0.7"}, 422, "temperature"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 1.5}, 422, "max_tokens"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": True}, 422, "max_tokens"),
        (COMPLETIONS, {"prompt": "x", "stream": "yes"}, 422, "stream"),
        (COMPLETIONS, {"prompt": "x", "stop": [1]}, 422, "stop"),
        (COMPLETIONS, {"prompt": "x", "priority": 3}, 422, "priority"),
        (COMPLETIONS, {"prompt": "x", "logit_bias": [1]}, 422, "logit_bias"),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {"a": 1}}, 400, "logit_bias"),
        (COMPLETIONS, {"prompt": "x", "logit_bias": {"1": 1000}}, 400, "logit_bias"),
        (COMPLETIONS, {"prompt": "x", "max_tokens": -1}, 400, "max_tokens"),
        (COMPLETIONS, {"prompt": "x", "temperature": -1}, 400, "temperature"),
        (COMPLETIONS, {"prompt": "x", "top_p": 2}, 400, "top_p"),
        (COMPLETIONS, {"prompt": "x", "top_k": -2}, 400, "top_k"),
        (COMPLETIONS, {"prompt": "x", "n": 0}, 400, "n"),
        (COMPLETIONS, {"prompt": "x", "n": 1000}, 400, "n"),
        (COMPLETIONS, {"prompt": "x", "best_of": 3}, 400, "best_of"),
        (COMPLETIONS, {"prompt": "x", "logprobs": 21}, 400, "logprobs"),
        (COMPLETIONS, {"prompt": "x", "seed": 2**64}, 400, "seed"),
        (COMPLETIONS, {"prompt": "x", "stop": ["a"] + [str(i) for i in range(16)]}, 400, "stop"),
        (COMPLETIONS, {"prompt": "x", "stop": ""}, 400, "stop"),
        (COMPLETIONS, {"prompt": "x", "suffix": "y"}, 400, "suffix"),
        (COMPLETIONS, {"prompt": "x", "min_tokens": 5}, 400, "min_tokens"),
        (COMPLETIONS, {"prompt": ""}, 400, "prompt"),
        (COMPLETIONS, {"prompt": []}, 400, "prompt"),
        (COMPLETIONS, {"prompt": [[]]}, 400, "prompt"),
        (COMPLETIONS, {"prompt": [-1]}, 400, "prompt"),
        (COMPLETIONS, {"prompt": [257]}, 400, "prompt"),
        (COMPLETIONS, {"prompt": "x", "model": "other"}, 404, "model"),
        (COMPLETIONS, {"prompt": "x", "model": 3}, 422, "model"),
        (CHAT, {}, 422, "messages"),
        (CHAT, {"messages": []}, 422, "messages"),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, 422, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 422, "messages"),
        (CHAT, {"messages": [{"role": "system", "content": "x"}]}, 400, "messages"),
        (CHAT, {"messages": [*HELLO, *HELLO]}, 400, "messages"),
        (CHAT, {"messages": [*HELLO, {"role": "system", "content": "x"}]}, 400, "messages"),
        (CHAT, {"messages": HELLO, "tools": [{"type": "function"}]}, 400, "tools"),
        (CHAT, {"messages": HELLO, "response_format": {"type": "json_object"}}, 400, "response_format"),
        (CHAT, {"messages": HELLO, "modalities": ["audio"]}, 400, "modalities"),
        (CHAT, {"messages": HELLO, "max_tokens": 0}, 400, "max_tokens"),
        (CHAT, {"messages": HELLO, "max_completion_tokens": 0}, 400, "max_completion_tokens"),
        (CHAT, {"messages": HELLO, "top_logprobs": 3}, 400, "top_logprobs"),
        (CHAT, {"messages": HELLO, "logprobs": True, "top_logprobs": 21}, 400, "top_logprobs"),
        (CHAT, {"messages": HELLO, "logprobs": 3}, 422, "logprobs"),
        ("/tokenize", {}, 400, "prompt"),
        ("/detokenize", {"tokens": [999]}, 400, "tokens"),
        ("/detokenize", {"tokens": "a"}, 422, "tokens"),
    ],
)
def test_wrong_values_are_refused_by_name(refusing: Any, path: str, body: Any, status: int, param: str) -> None:
    for stream in ({}, {"stream": True}) if path.startswith("/v1") and "stream" not in body else ({},):
        reply = refusing.post(path, body | stream)
        assert (reply.status_code, error_of(reply)["param"]) == (status, param), reply.text
        assert param in error_of(reply)["message"] or param in ("prompt", "messages")
    assert refusing.engine.requests == []
    assert refusing.service.num_admitted == 0


def test_what_does_not_change_the_answer_is_ignored(serve: Serve) -> None:
    served = serve()
    neutral = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "auto",
        "suffix": None,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "min_tokens": 5,
        "ignore_eos": True,
        "whatever": [1, 2],
        "max_tokens": 3,
    }
    assert served.post(CHAT, {"messages": HELLO} | neutral).status_code == 200
    assert served.post(COMPLETIONS, {"prompt": "x", "best_of": 1} | neutral).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"3",
        b"null",
        b'"x"',
        b'{"prompt": NaN}',
        b'{"prompt": "x", "temperature": Infinity}',
        b'{"prompt": "x", "temperature": 1e999}',
        b'{"prompt": "\\ud800"}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ],
)
def test_what_is_no_json_object_is_refused(refusing: Any, content: bytes) -> None:
    reply = httpx.post(f"{refusing.address}{COMPLETIONS}", content=content)
    assert 400 <= reply.status_code < 500, reply.text
    error_of(reply)


def test_other_paths_and_methods_answer_in_the_same_shape(serve: Serve) -> None:
    served = serve()
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", COMPLETIONS, 405),
        ("DELETE", "/v1/models", 405),
        ("OPTIONS", CHAT, 405),
        ("POST", "/api", 405),
    ):
        reply = httpx.request(method, f"{served.address}{path}")
        assert reply.status_code == status
        error_of(reply)
    assert httpx.get(f"{served.address}{CHAT}").headers["allow"] == "POST"


def test_a_body_has_a_largest_size(serve: Serve) -> None:
    served = serve(options=ApiOptions(max_body_bytes=1000))
    reply = served.post(COMPLETIONS, {"prompt": "x" * 2000})
    assert reply.status_code == 413
    error_of(reply)
    chunked = httpx.post(f"{served.address}{COMPLETIONS}", content=iter([b"x" * 600] * 3))
    assert chunked.status_code == 413


def test_a_slow_body_is_given_up(serve: Serve) -> None:
    served = serve(options=ApiOptions(body_timeout_s=0.2))
    host, port = served.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]


def _junk(source: random.Random, depth: int = 0) -> Any:
    simple = [None, True, -1, 0, 1, 3.5, 1e308, 2**70, "", "x", "\0", "🍐" * 3, "-1", [], {}]
    if depth > 2 or source.random() < 0.6:
        return source.choice(simple)
    if source.random() < 0.5:
        return [_junk(source, depth + 1) for _ in range(source.randrange(4))]
    return {source.choice(["role", "content", "type", "1", "a"]): _junk(source, depth + 1) for _ in range(3)}


@pytest.mark.parametrize("seed", range(4))
def test_malformed_bodies_give_errors_in_shape(serve: Serve, seed: int) -> None:
    """150 a run; `python -m app.api.load_test fuzz` sends 5,000."""
    served = serve()
    source = random.Random(seed)
    names = ["prompt", "messages", "max_tokens", "temperature", "top_p", "n", "stop", "logprobs", "logit_bias", "seed"]
    names += ["stream", "stream_options", "echo", "tokens", "prompts", "tokens_to_generate", "random_seed", "model"]
    with httpx.Client(base_url=served.address, timeout=30) as client:
        for _ in range(150):
            path = source.choice([COMPLETIONS, CHAT, "/tokenize", "/detokenize", "/api"])
            body = {source.choice(names): _junk(source) for _ in range(source.randrange(1, 6))}
            content = json.dumps(body).encode()
            if source.random() < 0.3:
                place = source.randrange(len(content))
                content = content[:place] + bytes([source.randrange(256)]) + content[place + 1 :]
            reply = client.request("PUT" if path == "/api" else "POST", path, content=content)
            assert reply.status_code < 500, (path, body, reply.text)
            if reply.status_code >= 400:
                error_of(reply)
    served.wait_idle()
