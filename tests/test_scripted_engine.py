"""The scripted engine keeps the promises of `model.interface`, so what passes on it means something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_engine import ByteTokenizer, PersimmonStyleTemplate, ScriptedEngine

from model.interface import (
    ChatMessage,
    CompletionStream,
    ContextLengthExceeded,
    EngineClosed,
    EngineError,
    InvalidRequest,
    SamplingParams,
    ScoreRequest,
    Tokenizer,
)

Open = Callable[..., ScriptedEngine]


@pytest.fixture
def open_scripted() -> Iterator[Open]:
    engines: list[ScriptedEngine] = []

    def make(*args: Any, **options: Any) -> ScriptedEngine:
        engines.append(ScriptedEngine(*args, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def read_all(stream: CompletionStream) -> list[str]:
    return [chunk.text for chunk in stream]


def test_generate_follows_the_script_and_ends_at_end_of_document(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: f" {prompt}!")
    first, second = engine.generate(["a", [98]], SamplingParams(seed=7))
    assert (first.text, second.text) == (" a!", " b!")
    assert first.finish_reason == "stop"
    assert first.token_ids[-1] == 256
    assert (first.seed, first.num_prompt_tokens) == (7, 1)
    assert engine.requests[1] == ("b", SamplingParams(seed=7))


def test_stop_string_is_cut_and_never_streamed(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: "one\n\nhum two\n\nhuman: three", tokens_per_s=300)
    chunks = list(engine.stream("x", SamplingParams(stop=("\n\nhuman:",))))
    assert "".join(chunk.text for chunk in chunks) == "one\n\nhum two"
    completion = chunks[-1].completion
    assert completion is not None
    assert (completion.text, completion.stop_reason) == ("one\n\nhum two", "\n\nhuman:")
    assert completion.timing.tokens_per_s(len(completion.token_ids)) == pytest.approx(300, rel=0.5)


def test_max_tokens_and_context_end_with_length(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: "abcdefgh", context_length=16)
    assert engine.generate(["x"], SamplingParams(max_tokens=3))[0].text == "abc"
    completion = engine.generate(["x" * 12], SamplingParams(max_tokens=None))[0]
    assert (completion.text, completion.finish_reason) == ("abcd", "length")
    with pytest.raises(ContextLengthExceeded) as failed:
        engine.stream("x" * 16, SamplingParams())
    assert (failed.value.num_prompt_tokens, failed.value.limit) == (16, 15)


def test_split_characters_are_held_back(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: "é漢🙂", tokens_per_s=100)
    parts = read_all(engine.stream("x", SamplingParams()))
    assert "".join(parts) == "é漢🙂"
    assert "\ufffd" not in "".join(parts)


def test_queue_abort_and_counts(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: "a" * 10_000, tokens_per_s=100, max_num_requests=1, context_length=20_000)
    first, second = (engine.stream("x", SamplingParams(max_tokens=None)) for _ in range(2))
    engine.wait_for(lambda stats: stats.num_running == 1 and stats.num_waiting == 1)
    assert engine.stats().num_free_blocks < engine.stats().num_usable_blocks
    assert second.next_chunk(timeout=0.05) is None
    first.abort()
    first.abort()
    assert [chunk.completion.finish_reason for chunk in first if chunk.completion] == ["abort"]
    assert second.next_chunk(timeout=1) is not None
    with second:
        pass
    stats = engine.stats()
    assert (stats.num_running, stats.num_waiting, stats.num_aborted) == (0, 0, 2)
    assert stats.num_free_blocks == stats.num_usable_blocks


def test_failing_request_raises_from_the_read(open_scripted: Open) -> None:
    engine = open_scripted(failure=lambda prompt: EngineError("it broke") if "bad" in prompt else None, fail_after=2)
    assert engine.generate(["good"], SamplingParams())[0].finish_reason == "stop"
    with pytest.raises(EngineError, match="it broke"):
        engine.generate(["bad"], SamplingParams())
    assert engine.stats().num_running == 0


def test_close_ends_streams(open_scripted: Open) -> None:
    engine = open_scripted(tokens_per_s=1)
    stream = engine.stream("x", SamplingParams())
    engine.close()
    engine.close()
    with pytest.raises(EngineClosed):
        read_all(stream)
    with pytest.raises(EngineClosed):
        engine.generate(["x"], SamplingParams())


def test_scores_agree_with_generation(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: " yes" if "?" in prompt else " no")
    encode = engine.tokenizer.encode
    right, wrong = engine.score(
        [ScoreRequest(context_token_ids=tuple(encode("a?")), continuation_token_ids=tuple(encode(text)))
         for text in (" yes", " yet")]
    )  # fmt: skip
    assert right.all_greedy
    assert wrong.is_greedy == (True, True, True, False)
    assert right.loglikelihood > wrong.loglikelihood


@pytest.mark.asyncio
async def test_async_reads(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: "abc", tokens_per_s=50, ttft_s=0.1)
    stream = engine.stream("x", SamplingParams())
    start = time.perf_counter()
    assert await stream.anext_chunk(timeout=0.01) is None
    assert time.perf_counter() - start < 0.09
    assert "".join([chunk.text async for chunk in stream]) == "abc"
    with pytest.raises(StopAsyncIteration):
        await stream.anext_chunk()
    assert [one.text for one in await engine.agenerate(["x", "y"], SamplingParams())] == ["abc", "abc"]


@pytest.mark.asyncio
async def test_cancelled_agenerate_aborts(open_scripted: Open) -> None:
    engine = open_scripted(tokens_per_s=1)
    task = asyncio.create_task(engine.agenerate(["x", "y"], SamplingParams()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.stats().num_aborted == 2


def test_template_and_tokenizer() -> None:
    template = PersimmonStyleTemplate()
    turns = [
        ChatMessage("prefix", "Be brief."),
        ChatMessage("user", "a"),
        ChatMessage("assistant", "b"),
        ChatMessage("user", "c"),
    ]
    assert template.render(turns) == "Be brief.\n\nhuman: a\n\nadept: b\n\nhuman: c\n\nadept:"
    assert template.render(turns[1:3]) == "human: a\n\nadept: b"
    for wrong in ([], turns[:1], [turns[1], turns[3]], [turns[2]]):
        with pytest.raises(InvalidRequest):
            template.render(wrong)
    tokenizer: Tokenizer = ByteTokenizer()
    assert tokenizer.decode([*tokenizer.encode("é 漢"), 256]) == "é 漢"
