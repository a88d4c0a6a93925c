"""Batches that fail: out of memory, an error, a lost device; and what the engine says of itself meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from model.engine.engine import LocalEngine
from model.engine.faults import SWITCH, cause_faults, is_fatal, is_out_of_memory
from model.engine.model_runner import StepResult
from model.engine.scheduler import Scheduled
from model.interface import EngineClosed, EngineError, InvalidRequest, SamplingParams, ScoreRequest
from model.open_engine import open_engine

PROMPTS = ["human: What is the", "The quick brown fox", "0123456789 times", "Été naïve façade, größer"]
GREEDY = SamplingParams(max_tokens=12, temperature=0.0)


@pytest.fixture
def own_engine(random_checkpoint: Path) -> Iterator[LocalEngine]:
    engine = open_engine(str(random_checkpoint), device="cpu", max_num_requests=8, block_size=4, kv_cache_tokens=512)
    yield engine
    engine.close()


def replace_run(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, before: Callable[[Sequence[Scheduled]], None]
) -> None:
    runner = engine._core.runner
    run = runner.run

    def replaced(scheduled: Sequence[Scheduled]) -> StepResult:
        before(scheduled)
        return run(scheduled)

    monkeypatch.setattr(runner, "run", replaced)


def all_free(engine: LocalEngine) -> bool:
    for _ in range(500):
        stats = engine.stats()
        if stats.num_free_blocks == stats.num_usable_blocks and not stats.num_running:
            return True
        time.sleep(0.01)
    return False


def test_out_of_memory_halves_the_batch_and_answers_stay_the_same(
    own_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [one.token_ids for one in own_engine.generate(PROMPTS, GREEDY)]
    tokens = own_engine.tokenizer.encode(PROMPTS[3])
    items = [ScoreRequest(context_token_ids=tuple(tokens[:3]), continuation_token_ids=tuple(tokens[3:]))] * 2
    scores = own_engine.score(items)
    sizes: list[int] = []

    def before(scheduled: Sequence[Scheduled]) -> None:
        sizes.append(len(scheduled))
        if len(scheduled) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    replace_run(own_engine, monkeypatch, before)
    assert [one.token_ids for one in own_engine.generate(PROMPTS, GREEDY)] == expected
    assert max(sizes) == 4
    assert [one.logprobs for one in own_engine.score(items)] == [
        pytest.approx(one.logprobs, abs=1e-5) for one in scores
    ]
    assert all_free(own_engine)


def test_what_does_not_fit_alone_fails_alone(own_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = own_engine.generate([PROMPTS[1]], GREEDY)[0].token_ids

    def before(scheduled: Sequence[Scheduled]) -> None:
        if any(item.request.num_prompt_tokens > 100 for item in scheduled):
            raise MemoryError

    replace_run(own_engine, monkeypatch, before)
    long = own_engine.stream([5] * 101, GREEDY)
    short = own_engine.stream(PROMPTS[1], GREEDY)
    with pytest.raises(EngineError, match="MemoryError"):
        list(long)
    chunks = list(short)
    assert chunks[-1].completion is not None
    assert chunks[-1].completion.token_ids == expected
    assert all_free(own_engine)


def test_after_a_lost_device_everything_is_refused(own_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def before(scheduled: Sequence[Scheduled]) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    replace_run(own_engine, monkeypatch, before)
    assert not own_engine.stats().is_closed
    with pytest.raises(EngineError, match="illegal memory access"):
        own_engine.generate(PROMPTS, GREEDY)
    own_engine._thread.join(10)
    assert own_engine.stats().is_closed
    with pytest.raises(EngineClosed):
        own_engine.generate(PROMPTS, GREEDY)


def test_the_age_of_a_step_is_seen_from_outside(own_engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def before(scheduled: Sequence[Scheduled]) -> None:
        release.wait(10)

    replace_run(own_engine, monkeypatch, before)
    assert own_engine.stats().step_age_s == 0.0
    stream = own_engine.stream(PROMPTS[0], GREEDY)
    deadline = time.perf_counter() + 5
    while own_engine.stats().step_age_s < 0.1:
        assert time.perf_counter() < deadline
        time.sleep(0.01)
    release.set()
    list(stream)
    assert all_free(own_engine)
    assert own_engine.stats().step_age_s < 0.1


def test_kinds_of_errors() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_fatal(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_fatal(RuntimeError("shapes do not fit"))


def test_faults_are_caused_where_the_switch_says(
    random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, own_engine: LocalEngine
) -> None:
    monkeypatch.setenv(SWITCH, "error@2")
    faulty = open_engine(str(random_checkpoint), device="cpu", max_num_requests=2, block_size=4, kv_cache_tokens=256)
    one = SamplingParams(max_tokens=1)
    assert faulty.generate([PROMPTS[0]], one)
    with pytest.raises(EngineError, match="injected"):
        faulty.generate([PROMPTS[1]], one)
    assert faulty.generate([PROMPTS[2]], one)
    faulty.close()
    for plan in ("oom", "oom@", "other@3", "oom@x"):
        runner: Any = own_engine._core.runner
        with pytest.raises(InvalidRequest, match="not allowed"):
            cause_faults(runner, plan)
