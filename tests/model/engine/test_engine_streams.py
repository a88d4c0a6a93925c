"""Several answers to one prompt, read as they grow: they share the prompt and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from model.engine.engine import LocalEngine
from model.engine.stream import RequestStream
from model.interface import Completion, CompletionStream, EngineStats, InvalidRequest, SamplingParams

IdleStats = Callable[[LocalEngine], EngineStats]
Open = Callable[..., LocalEngine]
Tokens = Callable[..., list[int]]


def assert_set(event: threading.Event) -> None:
    assert event.wait(timeout=10)


def answers(count: int, *, max_tokens: int = 12) -> list[SamplingParams]:
    return [
        SamplingParams(temperature=1.2, max_tokens=max_tokens, ignore_eos=True, seed=seed, logprobs=1)
        for seed in range(count)
    ]


def last(stream: CompletionStream) -> Completion:
    completion = list(stream)[-1].completion
    assert completion is not None
    return completion


def tokens_of(completions: list[Completion]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


@pytest.mark.parametrize("num_draft_tokens", [0, 2])
def test_answers_share_their_prompt(
    idle_stats: IdleStats,
    open_small: Open,
    plain: LocalEngine,
    tokens: Tokens,
    caches_prefixes: bool,
    num_draft_tokens: int,
) -> None:
    prompt, params = tokens(22), answers(5)
    engine = open_small(max_num_requests=5, num_draft_tokens=num_draft_tokens)
    streams = engine.streams(prompt, params)
    chunks = [list(stream) for stream in streams]
    completions = [one[-1].completion for one in chunks if one[-1].completion]
    assert tokens_of(completions) == tokens_of(plain.generate([prompt] * 5, params))
    assert [tuple(token for chunk in one for token in chunk.token_ids) for one in chunks] == tokens_of(completions)
    assert [sum(len(chunk.logprobs) for chunk in one) for one in chunks] == [12] * 5
    assert [one.num_cached_tokens for one in completions] == ([0] + [22] * 4 if caches_prefixes else [0] * 5)
    stats = idle_stats(engine)
    assert (stats.num_prompt_tokens, stats.num_finished) == (5 * 22, 5)
    assert stats.num_cached_tokens == (4 * 22 if caches_prefixes else 0)


@pytest.mark.slow
def test_one_aborted_does_not_disturb_the_others(
    idle_stats: IdleStats, open_small: Open, plain: LocalEngine, tokens: Tokens
) -> None:
    """Aborted before the prompt is computed, while it is, and in the middle of the answers."""
    prompt, params = tokens(40), answers(4, max_tokens=16)
    expected = tokens_of(plain.generate([prompt] * 4, params))
    engine = open_small(max_num_requests=4, max_num_batched_tokens=8)  # the prompt takes five steps
    for wait in (False, True):
        for aborted in ((0,), (3,), (0, 1, 2), (1, 2, 3)):
            streams = engine.streams(prompt, params)
            for index in aborted:
                if wait:
                    assert streams[index].next_chunk(timeout=10) is not None
                streams[index].abort()
            for index, stream in enumerate(streams):
                completion = last(stream)
                if index in aborted:
                    assert completion.token_ids == expected[index][: len(completion.token_ids)]
                    assert completion.finish_reason in ("abort", "length")
                else:
                    assert (completion.token_ids, completion.finish_reason) == (expected[index], "length")
            idle_stats(engine)
    prompt[0] += 1  # not in the cache
    streams = engine.streams(prompt, params)
    for stream in streams:
        stream.abort()
    assert {last(stream).finish_reason for stream in streams} == {"abort"}
    idle_stats(engine)


def test_more_answers_than_may_run_together(
    idle_stats: IdleStats, open_small: Open, plain: LocalEngine, tokens: Tokens
) -> None:
    prompt, params = tokens(18), answers(7)
    engine = open_small(max_num_requests=3, kv_cache_tokens=64)
    completions = [last(stream) for stream in engine.streams(prompt, params, priority="batch")]
    assert tokens_of(completions) == tokens_of(plain.generate([prompt] * 7, params))
    idle_stats(engine)


@pytest.mark.asyncio
async def test_answers_are_read_together_from_an_event_loop(
    open_small: Open, plain: LocalEngine, tokens: Tokens
) -> None:
    prompt, params = tokens(18), answers(4)

    async def read(stream: RequestStream) -> tuple[int, ...]:
        return tuple([token async for chunk in stream for token in chunk.token_ids])

    streams = open_small().streams(prompt, params)
    found = await asyncio.gather(*(read(stream) for stream in streams))
    assert found == tokens_of(plain.generate([prompt] * 4, params))


def test_nothing_is_queued_if_one_is_refused(idle_stats: IdleStats, open_small: Open, tokens: Tokens) -> None:
    engine = open_small()
    wrong = SamplingParams(logit_bias={engine.info.vocab_size: 1.0})
    with pytest.raises(InvalidRequest, match="token id"):
        engine.streams(tokens(9), [*answers(2), wrong])
    assert engine.streams(tokens(9), []) == []
    engine.generate([tokens(3)], SamplingParams(max_tokens=1))
    assert idle_stats(engine).num_prompt_tokens == 3


def test_who_waits_knows_their_place(open_small: Open, tokens: Tokens) -> None:
    engine = open_small(max_num_requests=1)
    params = SamplingParams(max_tokens=40, ignore_eos=True)
    queued, stepped, seen = threading.Event(), threading.Event(), threading.Event()

    def step_once() -> None:
        engine._core.step()
        stepped.set()
        assert seen.wait(timeout=10)

    engine._commands.put(lambda: assert_set(queued))
    streams = [engine.stream(tokens(number), params) for number in (5, 6, 7)]
    engine._commands.put(step_once)
    queued.set()
    assert stepped.wait(timeout=10)
    assert [stream.place() for stream in streams] == [None, 1, 2]
    streams[1].abort()
    seen.set()
    assert [chunk.completion is not None for chunk in streams[1]] == [True]
    assert streams[2].place() in (1, None)  # the first one may have ended meanwhile
    for stream in streams[::2]:
        stream.abort()
    assert all(stream.place() is None for stream in streams if list(stream))
