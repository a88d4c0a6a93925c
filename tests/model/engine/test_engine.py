"""The engine's equalities, token for token, on a random checkpoint in fp32, and its manners: aborts, limits, errors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PersimmonForCausalLM

from model.engine.engine import LocalEngine
from model.engine.model_runner import StepResult
from model.engine.scheduler import Scheduled
from model.interface import (
    ContextLengthExceeded,
    EngineClosed,
    EngineError,
    InvalidRequest,
    SamplingParams,
    ScoreRequest,
)
from model.open_engine import open_engine

GREEDY = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
PROMPTS = [
    "human: What is the capital of France?\n\nadept:",
    "The",
    "def add(a, b):\n",
    "human: a\n\nadept: b\n\nhuman: c and a rather longer question than the others\n\nadept:",
    "größer 🙂",
]


@pytest.fixture(scope="module")
def reference(random_checkpoint: Path) -> PersimmonForCausalLM:
    return PersimmonForCausalLM.from_pretrained(random_checkpoint, dtype=torch.float32).eval()


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def all_blocks_free(engine: LocalEngine) -> bool:
    stats = engine.stats()
    return stats.num_free_blocks == stats.num_usable_blocks and stats.num_running == stats.num_waiting == 0


def small_engine(checkpoint: Path, **options: Any) -> LocalEngine:
    return open_engine(str(checkpoint), device="cpu", **({"block_size": 4} | options))


def test_greedy_equals_hugging_face(engine: LocalEngine, reference: PersimmonForCausalLM) -> None:
    for prompt, completion in zip(PROMPTS, engine.generate(PROMPTS, GREEDY), strict=True):
        ids = torch.tensor([engine.tokenizer.encode(prompt)])
        expected = reference.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=None
        )
        assert list(completion.token_ids) == expected[0, ids.shape[1] :].tolist()
        assert completion.finish_reason == "length"
        assert completion.num_prompt_tokens == ids.shape[1]


@pytest.mark.parametrize("seeded", [False, True])
def test_batched_equals_alone(engine: LocalEngine, seeded: bool) -> None:
    params = [
        SamplingParams(temperature=0.9, top_p=0.95, max_tokens=20, seed=i, ignore_eos=True) if seeded else GREEDY
        for i in range(len(PROMPTS))
    ]
    together = engine.generate(PROMPTS, params)
    alone = [engine.generate([prompt], param)[0] for prompt, param in zip(PROMPTS, params, strict=True)]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert [c.text for c in together] == [c.text for c in alone]


def test_streamed_equals_not_streamed(engine: LocalEngine) -> None:
    for prompt in PROMPTS:
        expected = engine.generate([prompt], GREEDY)[0]
        chunks = list(engine.stream(prompt, GREEDY))
        assert chunks[-1].completion is not None
        assert all(chunk.completion is None for chunk in chunks[:-1])
        assert "".join(chunk.text for chunk in chunks) == chunks[-1].completion.text == expected.text
        assert tuple(t for chunk in chunks for t in chunk.token_ids) == expected.token_ids


def test_chunked_and_preempted_equal_whole(engine: LocalEngine, random_checkpoint: Path) -> None:
    """A tiny token budget cuts prompts into chunks; a tiny cache makes requests take blocks from each other."""
    expected = [completion.token_ids for completion in engine.generate(PROMPTS, GREEDY)]
    longest = max(len(engine.tokenizer.encode(prompt)) for prompt in PROMPTS)
    tight = small_engine(
        random_checkpoint, max_num_requests=5, max_num_batched_tokens=7, kv_cache_tokens=longest + 24 + 4
    )
    try:
        assert [completion.token_ids for completion in tight.generate(PROMPTS, GREEDY)] == expected
        assert tight.stats().num_preemptions > 0
        assert all_blocks_free(tight)
    finally:
        tight.close()


def test_scores_equal_hugging_face(engine: LocalEngine, reference: PersimmonForCausalLM) -> None:
    requests = [
        ScoreRequest(
            context_token_ids=tuple(engine.tokenizer.encode(context)),
            continuation_token_ids=tuple(engine.tokenizer.encode(continuation)),
        )
        for context in PROMPTS
        for continuation in (" Paris", "x", " the quick brown fox jumps over")
    ]
    for request, score in zip(requests, engine.score(requests), strict=True):
        ids = torch.tensor([request.context_token_ids + request.continuation_token_ids])
        with torch.inference_mode():
            logprobs = reference(ids[:, :-1]).logits[0].log_softmax(-1)[-len(request.continuation_token_ids) :]
        targets = torch.tensor(request.continuation_token_ids)
        assert score.token_ids == request.continuation_token_ids
        assert torch.tensor(score.logprobs).sub(logprobs.gather(-1, targets[:, None])[:, 0]).abs().max() <= 1e-4
        assert list(score.is_greedy) == (logprobs.argmax(-1) == targets).tolist()


def test_preempted_scores_equal_others(engine: LocalEngine, random_checkpoint: Path) -> None:
    """A growing answer takes the blocks of a younger request whose scoring is half done."""
    tokens = tuple(engine.tokenizer.encode(PROMPTS[3]))
    request = ScoreRequest(context_token_ids=tokens[:1], continuation_token_ids=tokens[1:])
    tight = small_engine(
        random_checkpoint, max_num_requests=2, max_num_batched_tokens=4, kv_cache_tokens=len(tokens) + 4
    )
    try:
        with tight.stream("The", SamplingParams(temperature=0.0, max_tokens=50, ignore_eos=True)):
            score, expected = tight.score([request])[0], engine.score([request])[0]
        assert tight.stats().num_preemptions > 0
        assert score.is_greedy == expected.is_greedy
        assert score.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    finally:
        tight.close()


def test_greedy_generation_scores_as_greedy(engine: LocalEngine) -> None:
    completion = engine.generate([PROMPTS[0]], GREEDY)[0]
    request = ScoreRequest(
        context_token_ids=tuple(engine.tokenizer.encode(PROMPTS[0])), continuation_token_ids=completion.token_ids
    )
    assert engine.score([request])[0].all_greedy


def test_same_seed_same_answer_other_seed_other_answer(engine: LocalEngine) -> None:
    def answer(seed: int | None) -> tuple[int, ...]:
        params = SamplingParams(temperature=1.5, max_tokens=16, seed=seed, ignore_eos=True)
        return engine.generate(["The"], params)[0].token_ids

    assert answer(3) == answer(3)
    assert len({answer(seed) for seed in range(5)}) == 5
    assert answer(None) != answer(None)


def test_a_drawn_seed_is_reported_and_repeats(engine: LocalEngine) -> None:
    first = engine.generate(["The"], SamplingParams(temperature=1.2, max_tokens=12))[0]
    again = engine.generate(["The"], SamplingParams(temperature=1.2, max_tokens=12, seed=first.seed))[0]
    assert again.token_ids == first.token_ids


def test_stop_string_cuts_the_text(engine: LocalEngine) -> None:
    text = engine.generate([PROMPTS[0]], GREEDY)[0].text
    stop = text[5:8]
    completion = engine.generate([PROMPTS[0]], SamplingParams(temperature=0.0, max_tokens=24, stop=(stop,)))[0]
    assert completion.text == text[: text.index(stop)]
    assert completion.finish_reason == "stop"
    assert completion.stop_reason == stop


def test_end_token_stops_unless_ignored(engine: LocalEngine) -> None:
    token = engine.generate([PROMPTS[0]], GREEDY)[0].token_ids[3]
    params = SamplingParams(temperature=0.0, max_tokens=24, stop_token_ids=(token,), ignore_eos=True)
    completion = engine.generate([PROMPTS[0]], params)[0]
    assert completion.token_ids[-1] == token
    assert len(completion.token_ids) <= 4
    assert (completion.finish_reason, completion.stop_reason) == ("stop", token)


def test_answers_end_where_the_context_does(engine: LocalEngine) -> None:
    completion = engine.generate(["The"], SamplingParams(temperature=0.0, max_tokens=None, ignore_eos=True))[0]
    assert completion.num_prompt_tokens + len(completion.token_ids) == engine.info.context_length
    assert completion.finish_reason == "length"


def test_too_long_prompt_names_both_numbers(engine: LocalEngine) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"200 tokens .* at most 127"):
        engine.generate([[5] * 200], GREEDY)
    with pytest.raises(ContextLengthExceeded, match="130 tokens"):
        engine.score([ScoreRequest(context_token_ids=(5,) * 129, continuation_token_ids=(6,))])


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [([], "prompt is empty"), ("", "prompt is empty"), ([5, 10**6], "token id 1000000"), ([-1], "token id -1")],
)
def test_bad_prompts_are_refused(engine: LocalEngine, prompt: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        engine.generate([prompt], GREEDY)
    assert all_blocks_free(engine)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("top_k", True),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("stop", "text"),
        ("stop", ("",)),
        ("stop", tuple("abcdefghijklmnopq")),
        ("stop_token_ids", (-1,)),
        ("seed", -1),
        ("seed", 2**63),
    ],
)
def test_bad_parameters_name_parameter_and_value(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SamplingParams(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r} ")


def test_abort_frees_blocks_and_keeps_the_text(engine: LocalEngine) -> None:
    stream = engine.stream("The", SamplingParams(temperature=0.0, max_tokens=120, ignore_eos=True))
    first = stream.next_chunk(timeout=5)
    assert first is not None
    stream.abort()
    chunks = [first, *stream]
    completion = chunks[-1].completion
    assert completion is not None
    assert completion.finish_reason == "abort"
    assert "".join(chunk.text for chunk in chunks) == completion.text
    assert len(completion.token_ids) < 120
    wait_until(lambda: all_blocks_free(engine))
    stream.abort()  # after the end: nothing happens


def test_leaving_the_context_aborts(engine: LocalEngine) -> None:
    aborted = engine.stats().num_aborted
    with engine.stream("The", SamplingParams(temperature=0.0, max_tokens=120, ignore_eos=True)) as stream:
        stream.next_chunk(timeout=5)
    wait_until(lambda: engine.stats().num_aborted == aborted + 1 and all_blocks_free(engine))


def test_waiting_requests_can_be_aborted(random_checkpoint: Path) -> None:
    engine = small_engine(random_checkpoint, max_num_requests=1)
    try:
        params = SamplingParams(temperature=0.0, max_tokens=100, ignore_eos=True)
        streams = [engine.stream("The", params) for _ in range(20)]
        for stream in streams[1:]:
            stream.abort()
        for stream in streams[1:]:
            assert [chunk.completion.finish_reason for chunk in stream if chunk.completion] == ["abort"]
        assert [c.completion.finish_reason for c in streams[0] if c.completion] == ["length"]
        wait_until(lambda: all_blocks_free(engine))
    finally:
        engine.close()


def test_many_requests_with_random_aborts_return_every_block(engine: LocalEngine) -> None:
    streams = [
        engine.stream(PROMPTS[i % len(PROMPTS)], SamplingParams(max_tokens=1 + i % 30, seed=i)) for i in range(60)
    ]
    for i, stream in enumerate(streams):
        if i % 3 == 0:
            stream.abort()
    for stream in streams:
        assert sum(chunk.completion is not None for chunk in stream) == 1
    wait_until(lambda: all_blocks_free(engine))


async def collect(engine: LocalEngine, prompt: str) -> tuple[int, ...]:
    return tuple([token async for chunk in engine.stream(prompt, GREEDY) for token in chunk.token_ids])


@pytest.mark.asyncio
async def test_async_twins_equal_sync(engine: LocalEngine) -> None:
    expected = [completion.token_ids for completion in engine.generate(PROMPTS, GREEDY)]
    assert [completion.token_ids for completion in await engine.agenerate(PROMPTS, GREEDY)] == expected
    assert list(await asyncio.gather(*(collect(engine, prompt) for prompt in PROMPTS))) == expected
    request = ScoreRequest(context_token_ids=(5,), continuation_token_ids=(6, 7))
    assert await engine.ascore([request]) == engine.score([request])


@pytest.mark.asyncio
async def test_cancelling_aborts(engine: LocalEngine) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=120, ignore_eos=True)
    task = asyncio.create_task(engine.agenerate(["The"] * 30, params))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: all_blocks_free(engine))


@pytest.mark.asyncio
async def test_reads_time_out_without_losing_anything(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    run = engine._core.runner.run

    def slow(scheduled: Sequence[Scheduled]) -> StepResult:
        time.sleep(0.005)
        return run(scheduled)

    monkeypatch.setattr(engine._core.runner, "run", slow)
    stream = engine.stream("The", GREEDY)
    tokens: list[int] = []
    timeouts = 0
    while True:
        try:
            chunk = await stream.anext_chunk(timeout=0.0005)
        except StopAsyncIteration:
            break
        timeouts += chunk is None
        tokens += chunk.token_ids if chunk else ()
    assert tuple(tokens) == engine.generate(["The"], GREEDY)[0].token_ids
    assert timeouts > 0


@pytest.fixture
def own_engine(random_checkpoint: Path) -> Iterator[LocalEngine]:
    engine = small_engine(random_checkpoint, max_num_requests=4)
    yield engine
    engine.close()


def test_a_failing_step_fails_its_requests_and_the_engine_goes_on(
    own_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = own_engine.generate(["The"], GREEDY)[0].token_ids
    run = own_engine._core.runner.run
    failures = iter([True])

    def fail_once(scheduled: Any) -> Any:
        if next(failures, False):
            raise RuntimeError("device fault")
        return run(scheduled)

    monkeypatch.setattr(own_engine._core.runner, "run", fail_once)
    with pytest.raises(EngineError, match="device fault"):
        own_engine.generate(["The"], GREEDY)
    assert own_engine.generate(["The"], GREEDY)[0].token_ids == expected
    assert all_blocks_free(own_engine)


def test_close_ends_running_requests_and_refuses_new_ones(own_engine: LocalEngine) -> None:
    stream = own_engine.stream("The", SamplingParams(temperature=0.0, max_tokens=120, ignore_eos=True))
    stream.next_chunk(timeout=5)
    own_engine.close()
    own_engine.close()
    with pytest.raises(EngineClosed):
        list(stream)
    with pytest.raises(EngineClosed):
        own_engine.generate(["The"], GREEDY)
    assert not [thread for thread in threading.enumerate() if thread is own_engine._thread]


def test_timing_is_in_order(engine: LocalEngine) -> None:
    timing = engine.generate(["The"], GREEDY)[0].timing
    assert timing.ttft_s is not None
    assert 0 <= timing.queued_s <= timing.ttft_s <= timing.total_s
    assert (timing.tokens_per_s(24) or 0) > 0
    assert timing.tokens_per_s(1) is None
