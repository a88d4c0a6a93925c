"""The official `openai` client works unchanged: completions, chat, streams, errors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from app.api.options import ApiOptions

MODEL = "scripted-engine"
Serve = Callable[..., Any]


def test_the_model_is_listed(serve: Serve) -> None:
    client = serve().openai()
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-4")
    assert error.value.code == "model_not_found"


def test_a_completion(serve: Serve) -> None:
    served = serve(answer=lambda prompt: f" after {prompt}")
    reply = served.openai().completions.create(model=MODEL, prompt="one", max_tokens=50)
    assert reply.choices[0].text == " after one"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.prompt_tokens == 3
    assert reply.usage.completion_tokens == len(" after one") + 1
    assert reply.object == "text_completion"
    assert reply.system_fingerprint == "fp_" + "0" * 12


def test_the_default_of_a_completion_is_sixteen_tokens(serve: Serve) -> None:
    reply = serve(answer=lambda prompt: "x" * 100).openai().completions.create(model=MODEL, prompt="one")
    assert reply.choices[0].text == "x" * 16
    assert reply.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("ab", ["ab"]),
        (["ab", "cd"], ["ab", "cd"]),
        ([97, 98], ["ab"]),
        ([[97, 98], [99]], ["ab", "c"]),
    ],
)
def test_every_form_of_prompt(serve: Serve, prompt: Any, texts: list[str]) -> None:
    served = serve(answer=lambda prompt: f"<{prompt}>")
    reply = served.openai().completions.create(model=MODEL, prompt=prompt, n=2, max_tokens=20)
    assert [choice.index for choice in reply.choices] == list(range(2 * len(texts)))
    assert [choice.text for choice in reply.choices] == [f"<{text}>" for text in texts for _ in range(2)]
    assert reply.usage.prompt_tokens == sum(map(len, texts))


def test_choices_have_seeds_that_follow_the_one_given(serve: Serve) -> None:
    served = serve()
    served.openai().completions.create(model=MODEL, prompt="hello world", n=3, seed=5)
    assert [params.seed for _, params in served.engine.requests] == [5, 6, 7]
    served.openai().completions.create(model=MODEL, prompt="hello world", seed=-1)
    assert served.engine.requests[-1][1].seed == 2**63 - 1


def test_parameters_reach_the_engine(serve: Serve) -> None:
    served = serve()
    served.openai().chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hi"}],
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=0.1,
        frequency_penalty=-0.2,
        logit_bias={"65": -100},
        stop=["END"],
        seed=3,
        user="somebody",
        extra_body={"top_k": 4, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True, "priority": "batch"},
    )
    prompt, params = served.engine.requests[0]
    assert prompt == "human: Hi\n\nadept:"
    assert (params.max_tokens, params.temperature, params.top_p, params.top_k) == (7, 0.5, 0.9, 4)
    assert (params.min_p, params.repetition_penalty) == (0.1, 1.1)
    assert (params.presence_penalty, params.frequency_penalty) == (0.1, -0.2)
    assert params.logit_bias == {65: -100}
    assert params.ignore_eos
    assert params.stop == ("END",)  # a benchmark that goes past the end does not stop at the format's either
    assert params.seed == 3
    assert served.engine.priorities == ["batch"]


def test_chat(serve: Serve) -> None:
    served = serve(answer=lambda prompt: " Fine.  ")
    reply = served.openai().chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "How are "}, {"type": "text", "text": "you?"}]},
        ],
    )
    assert reply.choices[0].message.content == "Fine."
    assert reply.choices[0].message.role == "assistant"
    assert served.engine.requests[0][0] == "Be kind.\n\nhuman: How are you?\n\nadept:"
    assert served.engine.requests[0][1].stop == ("\n\nhuman:",)
    assert served.engine.requests[0][1].max_tokens is None


def test_a_begun_answer_is_continued(serve: Serve) -> None:
    served = serve(answer=lambda prompt: " is 7. ")
    messages = [{"role": "user", "content": "3+4?"}, {"role": "assistant", "content": "The sum"}]
    client = served.openai()
    assert client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content == " is 7."
    chunks = list(client.chat.completions.create(model=MODEL, messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " is 7."


def test_a_chat_stream(serve: Serve) -> None:
    text = " Äpfel  und\n\nBirnen 🍐 "
    served = serve(answer=lambda prompt: text, tokens_per_s=2000)
    stream = served.openai().chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
        n=2,
    )
    chunks = list(stream)
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant", "assistant"]
    for index in range(2):
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in mine) == text.strip()
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == ["stop"]
        assert mine[-1].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 2 * (len(text.encode()) + 1)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_completion_stream_equals_the_whole(serve: Serve) -> None:
    served = serve(answer=lambda prompt: f" é{prompt}…", tokens_per_s=2000)
    wanted: dict[str, Any] = {
        "model": MODEL,
        "prompt": ["aé", "b"],
        "max_tokens": 30,
        "logprobs": 2,
        "echo": True,
        "seed": 1,
        "n": 2,
    }
    whole = served.openai().completions.create(**wanted)
    chunks = list(served.openai().completions.create(**wanted, stream=True))
    for choice in whole.choices:
        mine = [one for chunk in chunks for one in chunk.choices if one.index == choice.index]
        assert "".join(one.text for one in mine) == choice.text
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            parts = [getattr(one.logprobs, name) for one in mine if one.logprobs]
            assert [value for part in parts for value in part] == getattr(choice.logprobs, name), name


def test_chat_logprobs(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "é")
    reply = served.openai().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hi"}], logprobs=True, top_logprobs=3
    )
    content = reply.choices[0].logprobs.content
    assert [entry.token for entry in content] == ["bytes:\\xc3", "bytes:\\xa9", "token_id:256"]
    assert [entry.bytes for entry in content] == [[0xC3], [0xA9], None]
    for entry in content:
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == entry.logprob


def test_a_stop_string_is_cut_and_named(serve: Serve) -> None:
    served = serve(answer=lambda prompt: " one two three")
    reply = served.openai().completions.create(model=MODEL, prompt="p", stop=[" two"], max_tokens=50)
    assert reply.choices[0].text == " one"
    assert reply.choices[0].finish_reason == "stop"


def test_a_long_prompt_names_both_numbers(serve: Serve) -> None:
    served = serve(context_length=32)
    for call in (
        lambda: served.openai().completions.create(model=MODEL, prompt="x" * 40),
        lambda: served.openai().completions.create(model=MODEL, prompt="x" * 40, max_tokens=0, echo=True, logprobs=1),
        lambda: list(served.openai().completions.create(model=MODEL, prompt="x" * 40, stream=True)),
        lambda: served.openai().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x" * 24}], max_tokens=5
        ),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            call()
        assert error.value.code == "context_length_exceeded"
        assert any(number in str(error.value) for number in ("40", "39"))
        assert any(number in str(error.value) for number in ("31", "32"))
    served.wait_idle()


def test_another_model_is_not_found(serve: Serve) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        serve().openai().completions.create(model="gpt-4", prompt="x")
    assert error.value.code == "model_not_found"
    assert MODEL in str(error.value)


def test_an_engine_error_is_a_server_error_and_the_engine_goes_on(serve: Serve) -> None:
    from model.interface import EngineError

    def failure(prompt: str) -> EngineError | None:
        return EngineError("the model failed on this batch: CUDA error") if "bad" in prompt else None

    served = serve(failure=failure, fail_after=3)
    with pytest.raises(openai.InternalServerError) as error:
        served.openai().completions.create(model=MODEL, prompt="bad")
    assert "CUDA error" in str(error.value)
    with pytest.raises(openai.APIError, match="CUDA error"):
        list(served.openai().completions.create(model=MODEL, prompt="bad", stream=True))
    assert served.openai().completions.create(model=MODEL, prompt="good").choices[0].text
    served.wait_idle()


def test_an_error_in_the_middle_of_a_stream_is_raised_by_the_client(serve: Serve) -> None:
    from model.interface import EngineError

    served = serve(failure=lambda prompt: EngineError("the model failed"), fail_after=8, tokens_per_s=50)
    stream = iter(served.openai().completions.create(model=MODEL, prompt="x", stream=True))
    assert next(stream).choices[0].text
    with pytest.raises(openai.APIError, match="the model failed"):
        list(stream)
    served.wait_idle()


def test_a_full_queue_is_a_429_that_the_client_retries(serve: Serve) -> None:
    served = serve(options=ApiOptions(max_queue=0), answer=lambda prompt: "x" * 80, tokens_per_s=40, max_num_requests=1)
    stream = served.openai().completions.create(model=MODEL, prompt="first", max_tokens=80, stream=True)
    next(iter(stream))
    with pytest.raises(openai.RateLimitError) as error:
        served.openai().completions.create(model=MODEL, prompt="second")
    assert int(error.value.response.headers["retry-after"]) >= 1
    assert error.value.code == "queue_full"
    patient = served.openai(max_retries=3)
    assert patient.completions.create(model=MODEL, prompt="third", max_tokens=2).choices[0].text == "xx"
    assert served.service.default.gate.num_rejected >= 2


def test_more_than_ever_fits_is_refused_for_good(serve: Serve) -> None:
    served = serve(options=ApiOptions(max_queue=2), max_num_requests=1)
    with pytest.raises(openai.BadRequestError, match="at most 3"):
        served.openai().completions.create(model=MODEL, prompt=["a"] * 4)


def test_a_key_is_asked_for(serve: Serve) -> None:
    served = serve(options=ApiOptions(api_key="secret-ä"))
    assert "secret" not in repr(served.service.options)
    with pytest.raises(openai.AuthenticationError):
        served.openai(api_key="wrong").models.list()
    with pytest.raises(openai.AuthenticationError):
        served.openai(api_key="wrong").completions.create(model=MODEL, prompt="x")
    headers = {"Authorization": "Bearer secret-ä".encode()}
    assert httpx.get(f"{served.address}/v1/models", headers=headers).status_code == 200
    assert httpx.get(f"{served.address}/v1/models").status_code == 401
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        assert httpx.get(f"{served.address}{path}").status_code == 200


@pytest.mark.asyncio
async def test_async_streams_run_together_and_aborts_free_everything(serve: Serve) -> None:
    served = serve(answer=lambda prompt: " word" * 100, tokens_per_s=300, max_num_requests=8)
    before = served.engine.stats().num_free_blocks
    async with AsyncOpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0) as client:

        async def one(place: int) -> int:
            stream = await client.completions.create(model=MODEL, prompt=f"p{place}", max_tokens=200, stream=True)
            seen = 0
            async for chunk in stream:
                seen += len(chunk.choices[0].text)
                if place % 2 and seen > 10:
                    await stream.close()
                    break
            return seen

        seen = await asyncio.gather(*(one(place) for place in range(8)))
    assert [count == 200 for count in seen] == [True, False] * 4
    await asyncio.to_thread(served.wait_idle)
    assert served.engine.stats().num_free_blocks == before
    assert served.engine.stats().num_aborted == 4


def test_token_logprobs_of_completions_are_the_models(serve: Serve) -> None:
    served = serve(answer=lambda prompt: "ab")
    reply = served.openai().completions.create(model=MODEL, prompt="x", logprobs=0, max_tokens=5)
    logprobs = reply.choices[0].logprobs
    assert logprobs.tokens == ["a", "b", "token_id:256"]
    assert logprobs.token_logprobs == pytest.approx([math.log(0.9)] * 3)
    assert logprobs.text_offset == [0, 1, 2]
    assert [set(top) for top in logprobs.top_logprobs] == [{"a"}, {"b"}, {"token_id:256"}]
