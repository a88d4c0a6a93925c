"""Adept's own protocol, and token ids."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Serve = Callable[..., Any]


def put(served: Any, body: Any) -> httpx.Response:
    return httpx.put(f"{served.address}/api", json=body, timeout=30)


def test_prompts_are_continued(serve: Serve) -> None:
    served = serve(answer=lambda prompt: f" é<{prompt}>")
    reply = put(served, {"prompts": ["one", "two"], "tokens_to_generate": 30, "random_seed": 4, "top_k": 3}).json()
    assert reply["text"] == ["one é<one>", "two é<two>"]
    assert reply["generations"] == [" é<one>", " é<two>"]
    assert reply["logprobs"] is None
    assert reply["human_readable_tokens"][0] == ["", "<0xC3>", "<0xA9>", "<", "o", "n", "e", ">"]
    assert [params.seed for _, params in served.engine.requests] == [4, 5]
    assert served.engine.requests[0][1].top_k == 3
    assert served.engine.requests[0][1].top_p == 1.0


def test_the_defaults_are_adepts(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "x" * 100)
    reply = put(served, {"prompts": "alone", "logprobs": True}).json()
    assert reply["generations"] == ["x" * 64]
    assert len(reply["logprobs"][0]) == len("alone") - 1 + 64
    params = served.engine.requests[0][1]
    assert (params.temperature, params.top_k, params.top_p, params.stop) == (1.0, 0, 1.0, ())


def test_no_tokens_to_generate_only_scores(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "bc")
    body = {"prompts": ["abc", "a"], "tokens_to_generate": 0, "logprobs": True}
    reply = put(served, body).json()
    assert reply["text"] == ["abc", "a"]
    assert reply["generations"] == []
    assert reply["logprobs"][0] == pytest.approx([math.log(0.9)] * 2)
    assert reply["logprobs"][1] == []
    assert len(put(served, body | {"add_BOS": True}).json()["logprobs"][0]) == 3


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompts"),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["x"] * 129}, "prompts"),
        ({"prompts": [""]}, "prompts"),
        ({"prompts": [3]}, "prompts"),
        ({"prompts": ["x"], "max_len": 3}, "max_len"),
        ({"prompts": ["x"], "sentences": ["y"]}, "sentences"),
        ({"prompts": ["x"], "tokens_to_generate": -1}, "tokens_to_generate"),
        ({"prompts": ["x"], "tokens_to_generate": 0}, "logprobs"),
        ({"prompts": ["x"], "tokens_to_generate": "5"}, "tokens_to_generate"),
        ({"prompts": ["x"], "temperature": 0}, "temperature"),
        ({"prompts": ["x"], "temperature": 101}, "temperature"),
        ({"prompts": ["x"], "top_k": 1001}, "top_k"),
        ({"prompts": ["x"], "top_p": 1.5}, "top_p"),
        ({"prompts": ["x"], "top_p": 0.5, "top_k": 5}, "top_p"),
        ({"prompts": ["x"], "random_seed": -1}, "random_seed"),
        ({"prompts": ["x"], "add_BOS": 1}, "add_BOS"),
    ],
)
def test_wrong_values_are_refused_with_a_status(refusing: Any, body: Any, param: str) -> None:
    reply = put(refusing, body)
    assert reply.status_code in (400, 422)
    assert reply.json()["error"]["param"] == param
    assert refusing.engine.requests == []


def test_an_empty_prompt_may_begin_a_document(serve: Serve) -> None:
    reply = put(serve(answer=lambda prompt: "x"), {"prompts": [""], "add_BOS": True})
    assert reply.json()["text"] == ["x"]


def test_its_health_check(serve: Serve) -> None:
    assert httpx.get(f"{serve().address}/healthz").json() == {"success": True}


def test_tokenize_and_back(serve: Serve) -> None:
    served = serve()
    reply = served.post("/tokenize", {"prompt": "aé", "add_special_tokens": False}).json()
    assert reply == {"count": 3, "max_model_len": 2048, "tokens": [97, 0xC3, 0xA9]}
    assert served.post("/detokenize", {"tokens": reply["tokens"]}).json() == {"prompt": "aé"}
    chat = served.post("/tokenize", {"messages": [{"role": "user", "content": "Hi"}]}).json()
    assert bytes(chat["tokens"]) == b"human: Hi\n\nadept:"


def test_the_document_describes_every_route(serve: Serve) -> None:
    document = httpx.get(f"{serve().address}/openapi.json").json()
    assert set(document["paths"]) >= {"/v1/completions", "/v1/chat/completions", "/api", "/tokenize", "/v1/models"}
    schema = document["components"]["schemas"]["CompletionBody"]
    assert schema["required"] == ["prompt"]
    assert "Traceback" not in str(document)
