"""What the engine counts and times, by itself and in a running engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model.engine.engine import LocalEngine
from model.engine.metrics import NUM_LATENCIES, QUANTILES_EVERY_S, RATE_WINDOW_S, Metrics, latency
from model.interface import EngineStats, Latency, SamplingParams, ScoreRequest
from model.open_engine import open_engine

GREEDY = SamplingParams(temperature=0.0, max_tokens=10, ignore_eos=True)

IdleStats = Callable[[LocalEngine], EngineStats]
Open = Callable[..., LocalEngine]


def test_quantiles_are_nearest_ranks() -> None:
    assert latency([]) is None
    assert latency([3.0]) == Latency(count=1, p50=3.0, p95=3.0, maximum=3.0)
    assert latency([2.0, 1.0]) == Latency(count=2, p50=1.0, p95=2.0, maximum=2.0)
    assert latency(float(i) for i in range(100, 0, -1)) == Latency(count=100, p50=50.0, p95=95.0, maximum=100.0)


def test_quantiles_are_of_the_last_ones_and_not_always_worked_out() -> None:
    metrics = Metrics()
    for i in range(NUM_LATENCIES + 5):
        metrics.first_token(float(i))
        metrics.next_token(1.0)
    metrics.refresh(100.0)
    assert metrics.ttft_s is not None
    assert (metrics.ttft_s.count, metrics.ttft_s.maximum) == (NUM_LATENCIES, NUM_LATENCIES + 4)
    metrics.next_token(9.0)
    metrics.refresh(100.0 + QUANTILES_EVERY_S / 2)
    assert metrics.inter_token_s is not None
    assert metrics.inter_token_s.maximum == 1.0
    metrics.refresh(100.0 + QUANTILES_EVERY_S / 2, force=True)
    assert metrics.inter_token_s.maximum == 9.0
    metrics.next_token(11.0)
    metrics.refresh(101.0 + QUANTILES_EVERY_S)
    assert metrics.inter_token_s.maximum == 11.0


def test_the_rate_is_of_the_last_seconds() -> None:
    metrics = Metrics()
    assert metrics.tokens_per_s(0.0) == 0
    for second in range(20):
        metrics.step(float(second), 5)
        metrics.step(second + 0.5, 0)
    assert metrics.tokens_per_s(19.0) == 5 * 11 / RATE_WINDOW_S  # both ends count
    assert metrics.tokens_per_s(28.5) == 5 / RATE_WINDOW_S
    assert metrics.tokens_per_s(30.0) == 0
    assert metrics.num_steps == 40


@pytest.fixture
def open_persimmon(random_checkpoint: Path) -> Iterator[Open]:
    engines: list[LocalEngine] = []

    def make(**options: Any) -> LocalEngine:
        engines.append(open_engine(str(random_checkpoint), device="cpu", block_size=4, **options))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def assert_set(gate: threading.Event) -> None:
    assert gate.wait(timeout=10)


def test_a_fresh_engine_has_counted_nothing(open_persimmon: Open) -> None:
    stats = open_persimmon(max_num_requests=2).stats()
    assert stats == EngineStats(
        num_running=0,
        num_waiting=0,
        num_free_blocks=64,
        num_usable_blocks=64,
        num_generated_tokens=0,
        num_prompt_tokens=0,
        num_finished=0,
        num_aborted=0,
        num_preemptions=0,
        num_steps=0,
    )
    assert stats.prefix_hit_rate is stats.acceptance_rate is stats.ttft_s is stats.inter_token_s is None


def test_counts_and_times_of_answers(idle_stats: IdleStats, open_persimmon: Open) -> None:
    engine = open_persimmon(max_num_requests=4)
    completions = engine.generate([[5] * 9, [6] * 14, [7]], GREEDY)
    stats = idle_stats(engine)
    assert (stats.num_prompt_tokens, stats.num_generated_tokens, stats.num_finished) == (24, 30, 3)
    assert (stats.num_steps, stats.num_aborted, stats.num_preemptions) == (10, 0, 0)
    assert (stats.prefix_hit_rate, stats.acceptance_rate) == (0.0, None)
    times = [completion.timing.ttft_s for completion in completions]
    assert stats.ttft_s is not None
    assert stats.inter_token_s is not None
    assert (stats.ttft_s.count, stats.ttft_s.maximum) == (3, max(one for one in times if one))
    assert stats.inter_token_s.count == 27
    assert 0 < stats.inter_token_s.p50 <= stats.inter_token_s.p95 <= stats.inter_token_s.maximum
    if stats.inter_token_s.maximum < RATE_WINDOW_S / 20:  # unless the machine stood still
        assert stats.tokens_per_s == pytest.approx(30 / RATE_WINDOW_S)


def test_prompt_tokens_found_in_the_cache(idle_stats: IdleStats, open_persimmon: Open) -> None:
    engine = open_persimmon()
    prompt = list(range(5, 22))  # four full blocks and one token
    engine.generate([prompt], GREEDY)
    assert idle_stats(engine).prefix_hit_rate == 0.0
    (again,) = engine.generate([prompt], GREEDY)
    stats = idle_stats(engine)
    assert (stats.num_prompt_tokens, stats.num_cached_tokens, again.num_cached_tokens) == (34, 16, 16)
    assert stats.prefix_hit_rate == 16 / 34
    # Scoring: the context of 17 tokens once, of which 16 are found; then it is shared by the others.
    requests = [
        ScoreRequest(context_token_ids=tuple(prompt), continuation_token_ids=(token, 5)) for token in range(40, 43)
    ]
    engine.score(requests)
    stats = idle_stats(engine)
    assert stats.num_prompt_tokens == 34 + 3 * 18
    assert stats.num_cached_tokens == 16 + 16 + 17 + 17
    assert (stats.num_finished, stats.num_generated_tokens) == (5, 20)


def test_drafts(idle_stats: IdleStats, open_persimmon: Open) -> None:
    engine = open_persimmon(num_draft_tokens=3)
    bias = dict.fromkeys((70, 71), 60.0)
    params = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True, logit_bias=bias)
    (completion,) = engine.generate([[70, 71, 70, 71, 70]], params)
    stats = idle_stats(engine)
    assert stats.num_generated_tokens == len(completion.token_ids) == 30
    assert 0 < stats.num_accepted_tokens <= stats.num_draft_tokens
    assert stats.acceptance_rate == stats.num_accepted_tokens / stats.num_draft_tokens
    assert stats.num_steps == 30 - stats.num_accepted_tokens
    assert stats.inter_token_s is not None
    assert stats.inter_token_s.count == 29


def test_preemptions_and_aborts(idle_stats: IdleStats, open_persimmon: Open) -> None:
    engine = open_persimmon(max_num_requests=4, kv_cache_tokens=48)
    completions = engine.generate([[token] * 10 for token in (5, 6, 7)], [GREEDY] * 3)
    stats = idle_stats(engine)
    assert stats.num_preemptions > 0
    # What is computed again is neither a prompt's token nor one more generated.
    assert (stats.num_prompt_tokens, stats.num_generated_tokens, stats.num_finished) == (30, 30, 3)
    assert all(completion.num_cached_tokens == 0 for completion in completions)
    gate = threading.Event()
    engine._commands.put(lambda: assert_set(gate))  # so that it is aborted before it runs
    with engine.stream([8, 9], GREEDY) as stream:
        pass
    gate.set()
    assert [chunk.completion.finish_reason for chunk in stream if chunk.completion] == ["abort"]
    stats = idle_stats(engine)
    assert (stats.num_aborted, stats.num_finished, stats.num_prompt_tokens) == (1, 3, 30)
    assert stats.num_free_blocks == stats.num_usable_blocks
