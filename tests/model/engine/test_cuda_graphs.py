"""Replayed steps on devices that a CPU stands for: the tokens are those of steps that are not replayed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from graph_devices import LateDevice, PromptDevice

from kernels.sampling import draw_reference
from model.engine.cuda_graphs import BATCH_SIZES, DecodeGraphs, batch_sizes, capture_graphs
from model.engine.engine import LocalEngine
from model.engine.scheduler import Scheduled
from model.interface import Completion, EngineError, SamplingParams, StreamChunk
from model.open_engine import DEMO_CHECKPOINTS, open_engine

PROMPTS = [
    "human: What is the capital of France?\n\nadept:",
    "The quick brown fox",
    "A",
    "human: Which of these is a fruit: apple, stone?\n\nadept:",
    "def add(a, b):\n    return",
    "Once upon a time there was a",
    "0123456789 times",
]
DEVICES = [PromptDevice, LateDevice]


def greedy(max_tokens: int, **rest: Any) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0.0, **rest)


def with_graphs(engine: LocalEngine, device: PromptDevice) -> DecodeGraphs:
    """Let an engine that has nothing to do replay its steps from now on."""
    core = engine._core
    graphs = DecodeGraphs(
        core.runner,
        device,
        sizes=batch_sizes(core.scheduler.max_num_requests),
        max_blocks=core.scheduler.pool.blocks_for(engine.info.context_length),
    )
    run = core.runner.run

    def run_alone(scheduled: Sequence[Scheduled]) -> Any:
        assert not getattr(device, "pending", ()), "a step was computed while another was on its way"
        return run(scheduled)

    core.runner.run = run_alone  # type: ignore[method-assign]
    core.graphs = graphs
    return graphs


@pytest.fixture
def open_one(random_checkpoint: Path) -> Iterator[Callable[..., LocalEngine]]:
    """Opens one random checkpoint with small blocks, and closes it after the test."""
    engines: list[LocalEngine] = []

    def small(**options: Any) -> LocalEngine:
        options = {"block_size": 4, "max_num_requests": 8, "kv_cache_tokens": 1024} | options
        engines.append(open_engine(str(random_checkpoint), device="cpu", **options))
        return engines[-1]

    yield small
    for engine in engines:
        engine.close()


def ask(engine: LocalEngine, call: Callable[[], Any]) -> Any:
    """Call something in the engine's thread, between two steps."""
    found: Future[Any] = Future()
    engine._commands.put(lambda: found.set_result(call()))
    return found.result(timeout=60)


def check_idle(engine: LocalEngine) -> None:
    stats = ask(engine, lambda: engine._core.stats(fresh=True))
    assert (stats.num_running, stats.num_waiting) == (0, 0)
    assert stats.num_free_blocks == stats.num_usable_blocks


def comparable(completions: Sequence[Completion]) -> list[Any]:
    return [(one.token_ids, one.text, one.finish_reason, one.stop_reason) for one in completions]


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", DEMO_CHECKPOINTS, ids=lambda path: path.name)
def test_replayed_equals_not_replayed(checkpoint: Path) -> None:
    engine = open_engine(str(checkpoint), device="cpu", max_num_requests=6, kv_cache_tokens=4096)
    try:
        first = engine.generate(PROMPTS, greedy(24))
        words = sorted({word for one in first for word in one.text.split() if len(word) > 2})
        params = [
            greedy(1),
            greedy(40),
            greedy(30, stop=tuple(words[:3])),
            greedy(40, ignore_eos=True),
            greedy(17, stop_token_ids=tuple(first[4].token_ids[3:4])),
            greedy(33),
            SamplingParams(max_tokens=12, seed=7),
        ]
        expected = comparable(engine.generate(PROMPTS, params))
        for device in (PromptDevice(), LateDevice()):
            graphs = with_graphs(engine, device)
            assert device.num_captured == len(batch_sizes(6)) == 4
            assert comparable(engine.generate(PROMPTS, params)) == expected
            assert graphs.num_replays > 20
            tokens = [token for chunk in engine.stream(PROMPTS[1], params[1]) for token in chunk.token_ids]
            assert tuple(tokens) == expected[1][0]
            check_idle(engine)
        null_block = [cache[0] for layer in engine._core.runner.kv_cache for cache in (layer.key, layer.value)]
        assert all(block.isfinite().all() for block in null_block)
        assert not any(block[1:].any() for block in null_block), "only its first place is written"
    finally:
        engine.close()


@pytest.mark.parametrize("device_class", DEVICES)
def test_what_is_found_a_step_late(open_small: Callable[..., LocalEngine], device_class: type[PromptDevice]) -> None:
    """A pool too small for all, so that blocks are taken back and change hands between steps on their way."""
    engine = open_small(kv_cache_tokens=96, max_num_requests=5)
    tokens = [list(range(5, 5 + length)) for length in (3, 9, 14, 20, 6, 11, 17, 8)]
    params = [greedy(count, ignore_eos=True) for count in (30, 21, 14, 33, 40, 1, 9, 26)]
    expected = comparable(engine.generate(tokens, params))
    graphs = with_graphs(engine, device_class())
    preemptions = engine.stats().num_preemptions
    assert comparable(engine.generate(tokens, params)) == expected
    assert engine.stats().num_preemptions > preemptions
    assert graphs.num_replays > 30
    check_idle(engine)


def test_the_next_step_is_launched_before_the_last_is_seen(open_one: Callable[..., LocalEngine]) -> None:
    engine = open_one()
    device = LateDevice()
    graphs = with_graphs(engine, device)
    log: list[str] = []
    launch, wait = graphs.launch, graphs.wait
    graphs.launch = lambda scheduled: (log.append("launch"), launch(scheduled))[1]  # type: ignore[method-assign]
    graphs.wait = lambda launched: (log.append("wait"), wait(launched))[1]  # type: ignore[method-assign]
    uploads = 0
    upload = device.upload

    def counted(target: torch.Tensor, values: torch.Tensor) -> None:
        nonlocal uploads
        uploads += 1
        upload(target, values)

    device.upload = counted  # type: ignore[method-assign]
    engine.generate([[5, 6, 7], [8, 9]], greedy(10, ignore_eos=True))
    # The first token comes with the prompts; the other nine are launched one ahead.
    assert log == ["launch", *["launch", "wait"] * 8, "wait"]
    assert uploads == 1, "rows that go on need nothing from the host"


@pytest.mark.parametrize("device_class", DEVICES)
def test_aborts_between_steps(open_one: Callable[..., LocalEngine], device_class: type[PromptDevice]) -> None:
    engine = open_one(kv_cache_tokens=400)
    prompts = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    expected = engine.generate(prompts, greedy(50, ignore_eos=True))
    with_graphs(engine, device_class())
    for stopped_after in (1, 2, 7):
        streams = [engine.stream(prompt, greedy(50, ignore_eos=True)) for prompt in prompts]
        got: list[list[int]] = [[], [], []]
        for chunk in streams[1]:
            got[1] += chunk.token_ids
            if len(got[1]) >= stopped_after:
                break
        streams[1].abort()
        for index in (0, 2):
            got[index] = [token for chunk in streams[index] for token in chunk.token_ids]
            assert tuple(got[index]) == expected[index].token_ids
        assert tuple(got[1]) == expected[1].token_ids[: len(got[1])]
        check_idle(engine)


def test_all_aborted_with_a_step_on_its_way(open_one: Callable[..., LocalEngine]) -> None:
    engine = open_one()
    core = engine._core
    with_graphs(engine, LateDevice())
    seen = threading.Event()
    stream = engine.stream([5, 6, 7], greedy(100, ignore_eos=True))
    for _, chunk in zip(range(3), stream, strict=False):
        assert isinstance(chunk, StreamChunk)
        seen.set()
    stream.abort()
    check_idle(engine)
    for _ in range(200):
        if not ask(engine, lambda: core.has_work):
            break
    assert core._in_flight is None
    assert comparable(engine.generate([[5, 6, 7]], greedy(4)))


@pytest.mark.parametrize("device_class", DEVICES)
def test_a_number_that_is_not_finite_ends_its_batch_and_is_cleared(
    open_one: Callable[..., LocalEngine], device_class: type[PromptDevice]
) -> None:
    engine = open_one()
    prompts, params = [[5, 6, 7], [8, 9]], greedy(20, ignore_eos=True)
    expected = engine.generate(prompts, params)
    with_graphs(engine, device_class())
    model = engine._core.runner.model
    token = expected[0].token_ids[4]
    assert token not in expected[1].token_ids[:8]
    embedding = next(model.parameters())
    with torch.no_grad():
        kept = embedding[token].clone()
        embedding[token] = torch.nan
    with pytest.raises(EngineError, match="not finite"):
        engine.generate(prompts, params)
    check_idle(engine)
    with torch.no_grad():
        embedding[token] = kept
    for layer in engine._core.runner.kv_cache:
        assert layer.key.isfinite().all()
        assert layer.value.isfinite().all()
    assert comparable(engine.generate(prompts, params)) == comparable(expected)


def test_a_launch_that_fails_ends_its_requests_only(open_one: Callable[..., LocalEngine]) -> None:
    engine = open_one()
    prompts, params = [[5, 6, 7], [8, 9]], greedy(20, ignore_eos=True)
    expected = comparable(engine.generate(prompts, params))
    device = PromptDevice()
    graphs = with_graphs(engine, device)
    download = device.download
    count = 0

    def failing(source: torch.Tensor) -> Callable[[], torch.Tensor]:
        nonlocal count
        count += 1
        if count == 5:
            raise RuntimeError("told to fail")
        return download(source)

    device.download = failing  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="told to fail"):
        engine.generate(prompts, params)
    assert comparable(engine.generate(prompts, params)) == expected
    assert graphs.num_replays > 20
    check_idle(engine)


def test_what_the_device_cannot_choose_is_not_replayed(open_one: Callable[..., LocalEngine]) -> None:
    engine = open_one()
    graphs = with_graphs(engine, PromptDevice())
    plain = greedy(6, ignore_eos=True)
    for change in (
        {"logprobs": 0},
        {"logit_bias": {5: 1.0}},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": -0.1},
    ):
        engine.generate([[5, 6, 7]], dataclasses.replace(plain, **change))
        assert graphs.num_replays == 0, change
    engine.generate([[5, 6, 7]], dataclasses.replace(plain, prompt_logprobs=1))
    assert graphs.num_replays == 5, "the prompt is scored before"


def test_batch_sizes() -> None:
    assert BATCH_SIZES[:8] == (1, 2, 4, 8, 16, 24, 32, 40)
    assert BATCH_SIZES[-1] == 256
    assert batch_sizes(1) == (1,)
    assert batch_sizes(3) == (1, 2, 4)
    assert batch_sizes(64)[-1] == 64
    assert batch_sizes(1000) == BATCH_SIZES


def test_an_engine_says_why_it_has_no_graphs(engine: LocalEngine) -> None:
    assert engine.info.graph_batch_sizes == ()
    assert engine.info.graph_note == "they need a GPU, and this engine runs on cpu"


def test_a_capture_that_fails_is_said_in_a_sentence(engine: LocalEngine) -> None:
    class Full(PromptDevice):
        def capture(self, step: Callable[[], None]) -> Callable[[], None]:
            raise torch.OutOfMemoryError("told to fail")

    with pytest.raises(EngineError, match=r"cannot be captured .*: lower --gpu-memory-ut.* or use --no-graphs"):
        capture_graphs(engine._core.runner, Full(), max_num_requests=4, max_request_tokens=64)


@pytest.mark.parametrize("device_class", DEVICES)
def test_drawn_tokens_are_replayed_too(open_one: Callable[..., LocalEngine], device_class: type[PromptDevice]) -> None:
    """Where the device draws: the same tokens alone, together, and through graphs; without it, no graph takes them."""
    engine = open_one()
    tokens = [list(range(5, 5 + length)) for length in (3, 9, 14, 6)]
    params = [
        SamplingParams(max_tokens=14, seed=3, ignore_eos=True),
        SamplingParams(max_tokens=21, seed=4, temperature=0.7, top_k=20, top_p=0.9, ignore_eos=True),
        greedy(17, ignore_eos=True),
        SamplingParams(max_tokens=9, seed=2**62, min_p=0.05, ignore_eos=True),
    ]
    by_host = comparable(engine.generate(tokens, params))
    engine._core.runner.draw = draw_reference
    expected = comparable(engine.generate(tokens, params))
    assert expected[2] == by_host[2]
    assert expected[0] != by_host[0]
    alone = [comparable(engine.generate([one], [param]))[0] for one, param in zip(tokens, params, strict=True)]
    assert alone == expected
    graphs = with_graphs(engine, device_class())
    assert comparable(engine.generate(tokens, params)) == expected
    assert graphs.num_replays > 15
    check_idle(engine)
    replays = graphs.num_replays
    ask(engine, lambda: setattr(engine._core.runner, "draw", None))
    engine.generate(tokens[:2], params[:2])
    assert graphs.num_replays == replays
