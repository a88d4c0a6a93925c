"""The scripted engine keeps the promises of `model.interface`, so what passes on it means something."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scripted_engine import (
    GREEDY_LOGPROB,
    OTHER_LOGPROB,
    ByteTokenizer,
    PersimmonStyleTemplate,
    ScriptedEngine,
    ScriptedStream,
    scripted_head,
)

from model.engine.engine import LocalEngine
from model.engine.stream import RequestStream
from model.interface import (
    ChatMessage,
    CompletionStream,
    ContextLengthExceeded,
    EmbeddedPrompt,
    Engine,
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
    assert (first.place(), second.place()) == (None, 1)
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


@pytest.mark.parametrize(
    ("protocol", "implementation"),
    [
        (Engine, ScriptedEngine),
        (Engine, LocalEngine),
        (CompletionStream, ScriptedStream),
        (CompletionStream, RequestStream),
    ],
)
def test_methods_take_what_the_protocol_says(protocol: type, implementation: type) -> None:
    """mypy compares the types where it looks; this compares names, kinds and defaults of all parameters."""
    names = [name for name, member in vars(protocol).items() if inspect.isfunction(member) and not name.startswith("_")]
    assert {"stream", "hidden_states"} <= set(names) or {"next_chunk", "abort"} <= set(names)
    for name in names:
        promised, kept = (inspect.signature(getattr(one, name)).parameters for one in (protocol, implementation))
        assert [(one.name, one.kind, one.default) for one in kept.values()] == [
            (one.name, one.kind, one.default) for one in promised.values()
        ], name


def test_answers_scores_and_prompts_come_with_one_models_logprobs(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: " yes" if "?" in prompt else "?", tokens_per_s=500)
    assert math.exp(GREEDY_LOGPROB) + 256 * math.exp(OTHER_LOGPROB) == pytest.approx(1)
    stream = engine.stream("x", SamplingParams(logprobs=2, prompt_logprobs=0))
    chunks = list(stream)
    completion = chunks[-1].completion
    assert completion is not None
    assert [one.token_id for one in completion.logprobs] == [63, 256]
    assert completion.logprobs[0].top == ((63, GREEDY_LOGPROB), (0, OTHER_LOGPROB))
    assert completion.prompt_logprobs == ()
    assert tuple(one for chunk in chunks for one in chunk.logprobs) == completion.logprobs
    assert engine.generate(["x"], SamplingParams())[0].logprobs == ()
    (echoed,) = engine.generate(["x?a?"], SamplingParams(prompt_logprobs=1, max_tokens=1))
    (score,) = engine.score(
        [ScoreRequest(context_token_ids=(120,), continuation_token_ids=tuple(b"?a?"), top_logprobs=1)]
    )
    assert tuple(one.logprob for one in echoed.prompt_logprobs) == score.logprobs
    assert score.logprobs == (GREEDY_LOGPROB, OTHER_LOGPROB, OTHER_LOGPROB)
    assert score.top == tuple(one.top for one in echoed.prompt_logprobs)
    assert [top[0][0] for top in score.top] == [63, 256, 256]


def test_streams_share_their_prompt(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: "abcdef", tokens_per_s=200, ttft_s=0.1)
    streams = engine.streams("12345", [SamplingParams(max_tokens=count) for count in (1, 2, 3)])
    completions = [list(stream)[-1].completion for stream in streams]
    assert [one.text for one in completions if one] == ["a", "ab", "abc"]
    assert [one.num_cached_tokens for one in completions if one] == [0, 5, 5]
    stats = engine.stats()
    assert stats.prefix_hit_rate == 10 / 15
    assert stats.ttft_s is not None
    assert stats.inter_token_s is not None
    assert (stats.ttft_s.count, stats.inter_token_s.count) == (3, 3)
    assert stats.ttft_s.p50 >= 0.1
    assert stats.tokens_per_s == 6 / 10


def test_interactive_requests_go_first(open_scripted: Open) -> None:
    engine = open_scripted(lambda prompt: "abc", tokens_per_s=100, max_num_requests=1)
    running = engine.stream("r", SamplingParams())
    engine.wait_for(lambda stats: stats.num_running == 1)
    batch = engine.stream("b", SamplingParams(), priority="batch")
    interactive = engine.stream("i", SamplingParams())
    list(batch)
    assert next(iter(interactive)).completion is None  # it has chunks already, the last one too
    assert engine.stats().num_finished == 3
    list(running)
    engine.score([])
    assert engine.priorities == ["interactive", "batch", "interactive", "batch"]


@pytest.mark.asyncio
async def test_hidden_states_are_the_scripts(open_scripted: Open) -> None:
    engine = open_scripted(hidden_state=lambda prompt: [len(prompt), ord(prompt[0]), 0.5])
    vectors = np.ones((1, 3), dtype=np.float32)
    embedded = EmbeddedPrompt(token_ids=(98, 99), positions=(0,), vectors=vectors)
    states = engine.hidden_states(["abc", [97], embedded], priority="interactive")
    assert [state.tolist() for state in states] == [[3, 97, 0.5], [1, 97, 0.5], [2, 98, 0.5]]
    assert states[0].dtype == np.float32
    (twin,) = await engine.ahidden_states(["abc"])
    assert twin.tolist() == states[0].tolist()
    assert engine.priorities == ["interactive", "batch"]
    assert engine.generate([embedded], SamplingParams())[0].num_prompt_tokens == 2
    wrong = EmbeddedPrompt(token_ids=(98, 99), positions=(0,), vectors=vectors[:, :2])
    for prompts, sentence in (
        (["a" * 2049], "2049 tokens"),
        ([""], "empty"),
        ("text", "one string"),
        ([[257]], "token id 257"),
        ([wrong], r"vectors of shape \(1, 2\) do not fit: this model's have 3 numbers"),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            engine.hidden_states(prompts)
    with pytest.raises(InvalidRequest, match="token id 257"):
        engine.stream("a", SamplingParams(logit_bias={257: 1.0}))
    engine.close()
    with pytest.raises(EngineClosed):
        engine.hidden_states(["a"])


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


def test_heads_and_logits_follow_the_script(open_scripted: Open) -> None:
    engine = open_scripted(
        heads={"mood": ("bad", "good"), "length": ("short", "long")},
        logits=lambda head, prompt: (0.0, len(prompt) if head == "length" else 9.0),
    )
    assert [(head.name, head.labels) for head in engine.heads.values()] == [
        ("mood", ("bad", "good")),
        ("length", ("short", "long")),
    ]
    assert [logits.tolist() for logits in engine.classify(["abc", [98]], head="length")] == [[0, 3], [0, 1]]
    assert asyncio.run(engine.aclassify(["abc"], priority="interactive"))[0].tolist() == [0, 9]
    assert engine.priorities == ["batch", "interactive"]
    with pytest.raises(InvalidRequest, match="head='x' is not there: use one of mood, length"):
        engine.classify(["a"], head="x")
    assert engine.attach_head("folder/new").labels == ("bad", "good")
    assert list(engine.heads) == ["mood", "length", "new"]
    engine.close()
    with pytest.raises(EngineClosed):
        engine.classify(["a"])


def test_scores_say_what_logits_mean() -> None:
    head = scripted_head("h", ("a", "b"))
    logits = np.array([[0.0, math.log(3)], [1000.0, -1000.0]], dtype=np.float32)
    assert head.scores(logits) == pytest.approx(np.array([[0.25, 0.75], [1, 0]]))
    assert head.scores(logits[0]) == pytest.approx(np.array([0.25, 0.75]))
    both = dataclasses.replace(head, problem_type="multi_label").scores(logits)
    assert both == pytest.approx(np.array([[0.5, 0.75], [1, 0]]))
    assert both.dtype == np.float32
    assert dataclasses.replace(head, labels=("a",)).scores(logits[:, :1]) == pytest.approx(np.array([[0.5], [1]]))
    assert dataclasses.replace(head, problem_type="regression").scores(logits) is logits
