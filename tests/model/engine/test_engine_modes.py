"""Every way of running a request gives the same tokens: three families, and a model whose prefixes cannot be cached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from model.engine.engine import LocalEngine
from model.interface import (
    Completion,
    EngineStats,
    Priority,
    SamplingParams,
    ScoreRequest,
    StreamChunk,
    TokenLogprob,
    TokenScore,
)
from model.parity.hugging_face import HuggingFace

BLOCK_SIZE = 4
TOLERANCE = 1e-4  # of a log-probability; tokens must be the same
SETTINGS: list[dict[str, Any]] = [  # log-probabilities show more than tokens, of which few are near a draw
    {"temperature": 0.0},
    {"temperature": 0.0, "repetition_penalty": 1.2, "presence_penalty": 1.0, "frequency_penalty": 0.3, "logprobs": 3},
    {"temperature": 1.2, "logprobs": 0},
    {"temperature": 0.9, "top_p": 0.9, "repetition_penalty": 1.3, "logprobs": 0},
    {"temperature": 1.0, "top_k": 20, "min_p": 0.02, "presence_penalty": -0.8, "frequency_penalty": 0.5, "logprobs": 0},
    {"temperature": 1.5, "prompt_logprobs": 2, "logprobs": 1},
    {"temperature": 1.0, "stop": ("e", "th"), "logprobs": 0},
    {"temperature": 1.5, "stop_token_ids": tuple(range(3, 60)), "logprobs": 0},
]
LENGTHS = [17, 4, 1, 41, 8, 15, 5, 60]  # on both sides of the blocks' borders
FEW_TOKENS = dict.fromkeys(range(70, 73), 60.0)  # answers of these three alone repeat themselves

IdleStats = Callable[[LocalEngine], EngineStats]
Open = Callable[..., LocalEngine]
Tokens = Callable[..., list[int]]


@dataclass(frozen=True)
class Job:
    """A prompt, and what `plain` gave for it."""

    prompt: list[int]
    params: SamplingParams
    expected: Completion


def run_alone(plain: LocalEngine, prompts: Sequence[list[int]], params: Sequence[SamplingParams]) -> list[Job]:
    completions = plain.generate(prompts, params)
    return [Job(*each) for each in zip(prompts, params, completions, strict=True)]


@pytest.fixture(scope="session")
def jobs(plain: LocalEngine, tokens: Tokens) -> list[Job]:
    params = [SamplingParams(max_tokens=12, ignore_eos=True, seed=i, **setting) for i, setting in enumerate(SETTINGS)]
    done = run_alone(plain, [tokens(length) for length in LENGTHS], params)
    assert {job.expected.finish_reason for job in done} == {"stop", "length"}
    return done


@pytest.fixture(scope="session")
def repetitive_jobs(plain: LocalEngine, tokens: Tokens) -> list[Job]:
    settings: list[dict[str, Any]] = [
        {"temperature": 0.0, "frequency_penalty": 0.6},
        {"temperature": 0.8, "logprobs": 2},
        {"temperature": 1.0, "top_p": 0.95, "presence_penalty": 0.5, "repetition_penalty": 1.1},
        {"temperature": 1.0, "prompt_logprobs": 0},
        {"temperature": 1.0, "stop_token_ids": (71,)},
    ]
    params = [
        SamplingParams(max_tokens=20, ignore_eos=True, seed=i, logit_bias=FEW_TOKENS, **setting)
        for i, setting in enumerate(settings)
    ]
    return run_alone(plain, [tokens(2, i) + [70, 71, 72] * 5 for i in range(len(params))], params)


def floats(logprobs: Sequence[TokenLogprob]) -> list[float]:
    return [value for one in logprobs for value in (one.logprob, *(logprob for _, logprob in one.top))]


def ids(logprobs: Sequence[TokenLogprob]) -> list[int]:
    return [token for one in logprobs for token in (one.token_id, *(token for token, _ in one.top))]


def assert_same(completions: Sequence[Completion], jobs: Sequence[Job]) -> None:
    for one, job in zip(completions, jobs, strict=True):
        other = job.expected
        assert one.token_ids == other.token_ids
        for name in ("text", "finish_reason", "stop_reason", "num_prompt_tokens", "seed"):
            assert getattr(one, name) == getattr(other, name)
        for ours, theirs in ((one.logprobs, other.logprobs), (one.prompt_logprobs, other.prompt_logprobs)):
            assert ids(ours) == ids(theirs)
            assert floats(ours) == pytest.approx(floats(theirs), abs=TOLERANCE)


def assert_same_scores(ours: Sequence[TokenScore], theirs: Sequence[TokenScore]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert (one.token_ids, one.is_greedy) == (other.token_ids, other.is_greedy)
        assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
        assert [[token for token, _ in top] for top in one.top] == [[token for token, _ in top] for top in other.top]


def run_all(engine: LocalEngine, jobs: Sequence[Job], *, priority: Priority = "interactive") -> list[Completion]:
    return engine.generate([job.prompt for job in jobs], [job.params for job in jobs], priority=priority)


def test_greedy_tokens_equal_hugging_face(hugging_face: HuggingFace, plain: LocalEngine, tokens: Tokens) -> None:
    prompt = tokens(45)
    (completion,) = plain.generate([prompt], SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True))
    assert list(completion.token_ids) == hugging_face.greedy(prompt, count=40)


def test_batched_equals_alone(idle_stats: IdleStats, open_small: Open, jobs: list[Job]) -> None:
    engine = open_small(max_num_requests=16)
    assert_same(run_all(engine, jobs), jobs)
    assert_same(run_all(engine, jobs[::-1]), jobs[::-1])
    idle_stats(engine)


@pytest.mark.parametrize(("budget", "beside_answers"), [(5, 1), (7, 3), (16, 100)])
def test_chunked_equals_whole(
    idle_stats: IdleStats, open_small: Open, jobs: list[Job], budget: int, beside_answers: int
) -> None:
    engine = open_small(max_num_requests=3, max_num_batched_tokens=budget, max_num_prompt_tokens=beside_answers)
    assert_same(run_all(engine, jobs), jobs)
    assert idle_stats(engine).num_steps > sum(LENGTHS) / budget


def test_cached_equals_uncached(open_small: Open, jobs: list[Job], caches_prefixes: bool) -> None:
    engine = open_small(max_num_requests=4)
    run_all(engine, jobs)
    again = run_all(engine, jobs)
    assert_same(again, jobs)
    for completion, job in zip(again, jobs, strict=True):
        # The last token's output is needed, and with prompt_logprobs every token's.
        full = (len(job.prompt) - 1) // BLOCK_SIZE * BLOCK_SIZE if job.params.prompt_logprobs is None else 0
        assert completion.num_cached_tokens == (full if caches_prefixes else 0)


@pytest.mark.parametrize("shared", [15, 16, 17])
def test_a_long_shared_beginning_is_found(
    open_small: Open, plain: LocalEngine, tokens: Tokens, caches_prefixes: bool, shared: int
) -> None:
    prompts = [tokens(shared) + tokens(length, 1) for length in (1, 2, 3, 4, 9)]
    wanted = run_alone(plain, prompts, [SamplingParams(temperature=1.0, max_tokens=6, seed=3)] * 5)
    engine = open_small()
    engine.generate([tokens(shared)], SamplingParams(max_tokens=1))
    for job in wanted:
        (completion,) = run_all(engine, [job])
        assert_same([completion], [job])
        if caches_prefixes:
            assert completion.num_cached_tokens >= shared // BLOCK_SIZE * BLOCK_SIZE
        else:
            assert completion.num_cached_tokens == 0


def test_the_next_turn_of_a_chat_continues_the_last(
    open_small: Open, plain: LocalEngine, tokens: Tokens, caches_prefixes: bool
) -> None:
    engine = open_small(num_draft_tokens=2)
    text = tokens(11)
    for turn in range(4):
        params = SamplingParams(temperature=1.0, max_tokens=9 + turn, ignore_eos=True, seed=turn)
        (job,) = run_alone(plain, [list(text)], [params])
        (completion,) = run_all(engine, [job])
        assert_same([completion], [job])
        if turn and caches_prefixes:
            # All but the last token of the last answer, in full blocks, and what came with this turn.
            assert completion.num_cached_tokens == (len(text) - 6) // BLOCK_SIZE * BLOCK_SIZE
        text += [*completion.token_ids, *tokens(5, turn)]


def test_preempted_equals_not_preempted(
    idle_stats: IdleStats, open_small: Open, jobs: list[Job], repetitive_jobs: list[Job]
) -> None:
    longest = max(LENGTHS) + 12
    wanted = [*jobs, *repetitive_jobs]
    for options in ({}, {"max_num_batched_tokens": 9}, {"num_draft_tokens": 3}):
        engine = open_small(max_num_requests=8, kv_cache_tokens=longest + 4, **options)
        assert_same(run_all(engine, wanted), wanted)
        assert idle_stats(engine).num_preemptions > 0


@pytest.mark.parametrize("length", [8, 11, 13])
def test_forked_equals_separate(
    idle_stats: IdleStats, open_small: Open, plain: LocalEngine, tokens: Tokens, caches_prefixes: bool, length: int
) -> None:
    """Six answers to one prompt, where four may run together; with few blocks the forks get in each other's way."""
    settings = [SETTINGS[i] for i in (2, 3, 1, 4, 2, 0)]  # none wants prompt_logprobs
    params = [SamplingParams(max_tokens=9, ignore_eos=True, seed=i, **setting) for i, setting in enumerate(settings)]
    wanted = run_alone(plain, [tokens(length)] * len(params), params)
    for scarce in (False, True):
        engine = open_small(max_num_requests=4, **({"kv_cache_tokens": 28} if scarce else {}))
        completions = run_all(engine, wanted)
        assert_same(completions, wanted)
        assert len({completion.token_ids for completion in completions}) > 3
        stats = idle_stats(engine)
        if caches_prefixes:
            assert [completion.num_cached_tokens for completion in completions[:4]] == [0] + [length] * 3
            assert stats.num_cached_tokens == sum(completion.num_cached_tokens for completion in completions)
            assert (stats.num_preemptions > 0) is scarce
        else:
            assert stats.num_cached_tokens == 0


def score_groups(tokens: Tokens) -> list[ScoreRequest]:
    """Contexts of all lengths around the blocks' borders with short and long continuations, mixed."""
    requests = []
    for length in (1, 3, 7, 8, 9, 11, 12, 13, 16, 33):
        continuations = [tokens(1, length), tokens(1, length + 50), tokens(4), tokens(5), [70, *tokens(3)], tokens(13)]
        requests += [
            ScoreRequest(
                context_token_ids=tuple(tokens(33)[:length]),  # each begins the next
                continuation_token_ids=tuple(continuation),
                top_logprobs=place % 3,
            )
            for place, continuation in enumerate([*continuations, continuations[2]])
        ]
    return requests


@pytest.fixture(scope="session")
def scores(plain: LocalEngine, tokens: Tokens) -> list[TokenScore]:
    return plain.score(score_groups(tokens))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"max_num_requests": 4},  # fewer than the continuations of a context
        {"max_num_requests": 16, "max_num_batched_tokens": 16},
        {"max_num_requests": 7, "kv_cache_tokens": 52},  # the longest needs 46
        {"max_num_requests": 3, "max_num_batched_tokens": 5, "num_draft_tokens": 2},
    ],
)
def test_scores_with_shared_contexts_equal_separate_ones(
    idle_stats: IdleStats,
    open_small: Open,
    tokens: Tokens,
    scores: list[TokenScore],
    caches_prefixes: bool,
    options: dict[str, Any],
) -> None:
    engine = open_small(**options)
    requests = score_groups(tokens)
    assert_same_scores(engine.score(requests), scores)
    assert (idle_stats(engine).num_cached_tokens > 0) is caches_prefixes
    mixed = [*requests[1::2], *requests[::2]]  # now out of the cache too
    assert_same_scores(engine.score(mixed), [*scores[1::2], *scores[::2]])
    idle_stats(engine)


def test_streamed_equals_not_streamed(open_small: Open, jobs: list[Job], repetitive_jobs: list[Job]) -> None:
    engine = open_small(max_num_requests=5, num_draft_tokens=2)
    wanted = [*jobs, *repetitive_jobs]
    streams = [engine.stream(job.prompt, job.params) for job in wanted]
    all_chunks: list[list[StreamChunk]] = [list(stream) for stream in streams]
    completions = [chunks[-1].completion for chunks in all_chunks]
    assert all(chunk.completion is None for chunks in all_chunks for chunk in chunks[:-1])
    assert_same([completion for completion in completions if completion], wanted)
    for chunks, job in zip(all_chunks, wanted, strict=True):
        assert "".join(chunk.text for chunk in chunks) == job.expected.text
        assert tuple(token for chunk in chunks for token in chunk.token_ids) == job.expected.token_ids
        streamed = [one for chunk in chunks for one in chunk.logprobs]
        assert ids(streamed) == ids(job.expected.logprobs)


@pytest.mark.slow
@pytest.mark.parametrize("num_draft_tokens", [1, 5])
def test_speculative_equals_not_speculative(
    idle_stats: IdleStats, open_small: Open, jobs: list[Job], repetitive_jobs: list[Job], num_draft_tokens: int
) -> None:
    wanted = [*jobs, *repetitive_jobs]
    together = open_small(num_draft_tokens=num_draft_tokens)
    assert_same(run_all(together, wanted), wanted)
    tight = open_small(num_draft_tokens=num_draft_tokens, max_num_requests=2, max_num_batched_tokens=4)
    assert_same(run_all(tight, wanted[::-1]), wanted[::-1])
    stats = idle_stats(together)
    assert 0 < stats.num_accepted_tokens < stats.num_draft_tokens
    assert stats.num_generated_tokens == sum(len(job.expected.token_ids) for job in wanted)


def test_priority_changes_no_result(
    idle_stats: IdleStats, open_small: Open, plain: LocalEngine, jobs: list[Job], tokens: Tokens
) -> None:
    """Interactive requests come while batch ones run, and take their places."""
    params = [SamplingParams(temperature=1.0, max_tokens=30, ignore_eos=True, seed=i) for i in range(3)]
    patient = run_alone(plain, [tokens(20, i) for i in range(3)], params)
    engine = open_small(max_num_requests=2, max_num_prompt_tokens=4)
    gate = threading.Event()

    def let_batch_run() -> None:
        assert gate.wait(timeout=10)
        for _ in range(8):
            engine._core.step()

    streams = [engine.stream(job.prompt, job.params, priority="batch") for job in patient]
    engine._commands.put(let_batch_run)
    streams += [engine.stream(job.prompt, job.params) for job in jobs]
    gate.set()
    last = [list(stream)[-1].completion for stream in streams]
    assert_same([completion for completion in last if completion], [*patient, *jobs])
    assert idle_stats(engine).num_preemptions > 0
    assert_same(run_all(engine, jobs, priority="batch"), jobs)


def test_everything_at_once(
    idle_stats: IdleStats,
    open_small: Open,
    plain: LocalEngine,
    jobs: list[Job],
    repetitive_jobs: list[Job],
    tokens: Tokens,
    scores: list[TokenScore],
) -> None:
    """Answers, forks, scores, hidden states and aborted streams from many threads, short of blocks and of budget."""
    engine = open_small(
        max_num_requests=4, max_num_batched_tokens=9, max_num_prompt_tokens=3, kv_cache_tokens=100, num_draft_tokens=3
    )
    requests = score_groups(tokens)
    prompts = [tokens(length, 3) for length in (1, 8, 30)]
    hidden_states = plain.hidden_states(prompts)

    def answer(some: list[Job], priority: Priority) -> None:
        assert_same(run_all(engine, some, priority=priority), some)

    def fork(job: Job) -> None:
        assert_same(run_all(engine, [job] * 3), [job] * 3)

    def score(begin: int) -> None:
        chosen = slice(begin, begin + 14)
        assert_same_scores(engine.score(requests[chosen]), scores[chosen])

    def read_hidden_states() -> None:
        for one, other in zip(engine.hidden_states(prompts), hidden_states, strict=True):
            np.testing.assert_allclose(one, other, atol=TOLERANCE)

    def go_away(job: Job) -> None:
        with engine.stream(job.prompt, SamplingParams(max_tokens=50, seed=1)) as stream:
            stream.next_chunk(timeout=10)

    with ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(answer, jobs, "batch"),
            pool.submit(answer, repetitive_jobs, "interactive"),
            *(pool.submit(score, begin) for begin in (0, 14, 28)),
            pool.submit(go_away, jobs[3]),
            pool.submit(fork, jobs[7]),
            pool.submit(fork, repetitive_jobs[2]),
            pool.submit(read_hidden_states),
            pool.submit(go_away, jobs[0]),
            pool.submit(answer, jobs[::-1], "interactive"),
        ]
    for future in futures:
        future.result()
    assert idle_stats(engine).num_preemptions > 0
