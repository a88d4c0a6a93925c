"""Malformed bodies: every reply is an error of the client's, in OpenAI's shape."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import httpx

from app.api.load_test.verdict import Verdict, settled

PATHS = ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/api")
NAMES = (
    *("prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "n", "stop"),
    *("logprobs", "top_logprobs", "logit_bias", "seed", "stream", "stream_options", "echo", "tokens", "prompts"),
    *("tokens_to_generate", "random_seed", "model", "priority", "suffix", "tools", "presence_penalty"),
)
_INNER = ("role", "content", "type", "text", "1", "a", "include_usage")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 3.5, -0.0, 1e308, 2**70, -(2**70)),
    *("", "x", "\0", "🍐" * 9, "user", "text", "NaN", "-1", "x" * 5000, [], {}, [[]]),
)


def malformed(source: random.Random) -> bytes:
    """A body that is probably wrong."""
    content = json.dumps({source.choice(NAMES): _value(source, 0) for _ in range(source.randrange(1, 6))}).encode()
    kind = source.random()
    if kind < 0.2:  # a byte is another one
        place = source.randrange(len(content))
        return content[:place] + bytes([source.randrange(256)]) + content[place + 1 :]
    if kind < 0.3:  # cut off
        return content[: source.randrange(len(content))]
    if kind < 0.35:
        return source.randbytes(source.randrange(200))
    if kind < 0.4:
        return b"[" * source.randrange(1, 100_000)
    return content


async def fuzz(client: httpx.AsyncClient, *, bodies: int, seed: int) -> Verdict:
    """Bodies, one after the other, until so many were refused: chance makes sense of a few."""
    source = random.Random(seed)
    statuses: Counter[int] = Counter()
    bad: list[str] = []
    while statuses.total() - statuses[200] < bodies:
        path = source.choice(PATHS)
        method = "PUT" if path == "/api" else "POST"
        reply = await client.request(method, path, content=malformed(source))
        statuses[reply.status_code] += 1
        if reply.status_code >= 500 or (reply.status_code >= 400 and not _in_shape(reply)):
            bad.append(f"{method} {path}: {reply.status_code} {reply.text[:200]}")
    await settled(client)
    return Verdict(
        "fuzz",
        not bad,
        {**{f"{status}:": count for status, count in sorted(statuses.items())}, "wrong": bad[:3] or 0},
    )


def _value(source: random.Random, depth: int) -> Any:
    if depth > 2 or source.random() < 0.6:
        return source.choice(_VALUES)
    if source.random() < 0.5:
        return [_value(source, depth + 1) for _ in range(source.randrange(4))]
    return {source.choice(_INNER): _value(source, depth + 1) for _ in range(3)}


def _in_shape(reply: httpx.Response) -> bool:
    try:
        error = reply.json()["error"]
        return set(error) == {"message", "type", "param", "code"} and "Traceback" not in error["message"]
    except (ValueError, KeyError, TypeError):
        return False
