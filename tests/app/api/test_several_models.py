"""Several models behind one API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from scripted_engine import ScriptedEngine

from app.api.options import ApiOptions
from app.server import create_app
from model.interface import InvalidRequest

Serve = Callable[..., Any]


@pytest.fixture
def served(serve: Serve) -> Any:
    other = ScriptedEngine(lambda prompt: " beta", model_name="beta", context_length=64)
    return serve(ScriptedEngine(lambda prompt: " alpha", model_name="alpha"), beside=[other])


def test_a_request_goes_to_the_model_it_names_and_without_a_name_to_the_first(served: Any) -> None:
    client = served.openai()
    assert [model.id for model in client.models.list()] == ["alpha", "beta"]
    assert client.models.retrieve("beta").model_extra["max_model_len"] == 64
    for name in ("alpha", "beta"):
        assert client.completions.create(model=name, prompt="x").choices[0].text == f" {name}"
        asked = [{"role": "user", "content": "x"}]
        assert client.chat.completions.create(model=name, messages=asked).choices[0].message.content == name
        stream = client.chat.completions.create(model=name, messages=asked, stream=True)
        chunks = list(stream)
        assert {chunk.model for chunk in chunks} == {name}
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == name
    reply = served.post("/v1/completions", {"prompt": "x"}).json()
    assert (reply["model"], reply["choices"][0]["text"]) == ("alpha", " alpha")
    assert served.post("/tokenize", {"prompt": "x", "model": "beta"}).json()["max_model_len"] == 64
    for body, text in (({}, " alpha"), ({"model": "beta"}, " beta")):
        reply = httpx.put(f"{served.address}/api", json={"prompts": ["x"], **body}).json()
        assert reply["generations"] == [text]


def test_an_unknown_name_is_told_what_there_is(served: Any) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        served.openai().completions.create(model="gamma", prompt="x")
    assert error.value.body == {
        "message": "the model 'gamma' is not here: use one of 'alpha', 'beta'",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_each_model_has_a_queue_and_counts_of_its_own(serve: Serve) -> None:
    slow: dict[str, Any] = {"answer": lambda prompt: "word " * 200, "tokens_per_s": 100, "max_num_requests": 1}
    served = serve(
        ScriptedEngine(model_name="alpha", **slow),
        options=ApiOptions(max_queue=0),
        beside=[ScriptedEngine(model_name='be"ta')],
    )
    stream = served.openai().completions.create(model="alpha", prompt="x", stream=True, max_tokens=500)
    next(iter(stream))
    assert served.post("/v1/completions", {"prompt": "x", "model": "alpha"}).status_code == 429
    assert served.post("/v1/completions", {"prompt": "x", "model": 'be"ta'}).status_code == 200
    text = httpx.get(f"{served.address}/metrics").text
    assert 'engine_requests_running{model="alpha"} 1\n' in text
    assert 'engine_requests_finished_total{model="be\\"ta"} 1\n' in text
    assert 'api_requests_rejected_total{model="alpha"} 1\n' in text
    assert text.count("# TYPE engine_requests_running ") == 1
    state = httpx.get(f"{served.address}/health").json()
    assert [(one["model_name"], one["stats"]["num_running"]) for one in state["models"]] == [("alpha", 1), ('be"ta', 0)]
    stream.close()
    served.service.drain()
    assert served.post("/v1/completions", {"prompt": "x", "model": 'be"ta'}).status_code == 503


def test_one_closed_engine_makes_the_server_unready(served: Any) -> None:
    served.service.models["beta"].engine.close()
    reply = httpx.get(f"{served.address}/health/ready")
    assert (reply.status_code, reply.json()["error"]) == (503, "the engine of beta takes no more requests")


def test_two_models_of_one_name_are_refused() -> None:
    engine = ScriptedEngine(model_name="alpha")
    with pytest.raises(InvalidRequest, match="two models are named 'alpha'"):
        create_app([engine, engine], with_pages=False)
    engine.close()
