"""The engine's steps, watched from inside: when each ended, and what a captured one takes with nothing around it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch

from model.engine.core import EngineCore
from model.engine.cuda_graphs import DecodeGraphs, batch_sizes
from model.engine.engine import LocalEngine
from model.engine.graph_backend import CudaGraphBackend, GraphBackend
from model.engine.metrics import Metrics
from model.engine.request import Request
from model.families.registry import CausalLM
from model.interface import SamplingParams
from model.speed.clock import seconds_each
from model.speed.zeros import squared_relu_mlps

__all__ = [
    "DecodeGraphs",
    "Decoding",
    "GraphBackend",
    "LocalEngine",
    "StepLog",
    "bare_step_s",
    "capture",
    "decoding",
    "dense_mlps",
    "fill_cache",
    "in_engine_thread",
    "new_backend",
    "random_prompt",
]

Result = TypeVar("Result")
FIRST_TOKEN = 16  # ids below are nobody's random tokens
WAIT_S = 600.0


class StepLog(Metrics):
    """The engine's metrics, and the end of every step with the number of tokens it gave."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[float, int]] = []

    def step(self, now: float, num_generated: int) -> None:
        super().step(now, num_generated)
        self.steps.append((now, num_generated))


@dataclass(frozen=True, slots=True)
class Decoding:
    """Steps in which all answers got a token: median and 95th percentile of their lengths in seconds, and how many."""

    median_s: float
    p95_s: float
    num_steps: int


def in_engine_thread(engine: LocalEngine, call: Callable[[EngineCore], Result]) -> Result:
    """Call something between two steps, in the thread that computes them."""
    found: Future[Result] = Future()

    def run() -> None:
        try:
            found.set_result(call(engine._core))
        except Exception as error:
            found.set_exception(error)

    engine._commands.put(run)
    return found.result(timeout=WAIT_S)


def random_prompt(num_tokens: int, *, vocab_size: int, seed: int) -> list[int]:
    """Token ids; another seed has other ids from the first on, so that nothing is found in the prefix cache."""
    draw = random.Random(f"{num_tokens} {vocab_size} {seed}")
    return [draw.randrange(FIRST_TOKEN, vocab_size) for _ in range(num_tokens)]


def decoding(engine: LocalEngine, prompts: Sequence[Sequence[int]], *, num_tokens: int) -> Decoding:
    """Let the engine answer all prompts together, `num_tokens` greedy tokens each, and time the steps of all of them.

    The prompts are read once before, and found in the prefix cache: all answers begin together.

    Args:
        prompts: that nobody has asked before.

    Raises:
        ValueError: there was no such step: the last prompt was read when the first answer had ended.
    """
    log = StepLog()
    pool = engine._core.scheduler.pool
    caches_prefixes = pool.caches_prefixes
    in_engine_thread(engine, lambda core: setattr(pool, "caches_prefixes", True))
    try:
        engine.generate(prompts, SamplingParams(max_tokens=1, temperature=0.0), priority="batch")
        in_engine_thread(engine, lambda core: setattr(core, "metrics", log))
        params = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
        engine.generate(prompts, params, priority="batch")
    finally:
        in_engine_thread(engine, lambda core: setattr(pool, "caches_prefixes", caches_prefixes))
    # The step after a prompt's is not preceded by one of its kind.
    full = [end - begin for (begin, before), (end, tokens) in pairwise(log.steps) if before == tokens == len(prompts)][
        1:
    ]
    if not full:
        raise ValueError(f"no step had all {len(prompts)} answers in it: {num_tokens} tokens are too few")
    return Decoding(statistics.median(full), sorted(full)[int(0.95 * (len(full) - 1))], len(full))


def new_backend(device: torch.device) -> GraphBackend | None:
    """What captures steps on a device; `None` where nothing does."""
    return CudaGraphBackend(device) if device.type == "cuda" else None


def bare_step_s(core: EngineCore, graphs: DecodeGraphs, *, batch: int, context: int, num_steps: int) -> float:
    """Mean time of captured steps replayed one after the other, of answers of `context` tokens on average.

    The cache holds whatever it holds; blocks are taken as they come, so nothing may run, and what was cached is lost.

    Raises:
        ValueError: the cache holds fewer tokens.
    """
    pool, first = core.scheduler.pool, max(1, context - num_steps // 2)
    width = pool.blocks_for(first + 2 * num_steps)
    if batch * width > pool.num_usable:
        raise ValueError(f"{batch} x {context} tokens do not fit the cache of {pool.num_usable * pool.block_size}")
    if first + 2 * num_steps > graphs.max_blocks * pool.block_size:
        raise ValueError(f"a context of {context} tokens is more than the graphs were captured for")
    vocab_size = core.runner.model.config.vocab_size
    requests = []
    for index in range(batch):
        tokens = random_prompt(first, vocab_size=vocab_size, seed=index)
        requests.append(
            Request(
                request_id=-1 - index,
                token_ids=tokens,
                num_prompt_tokens=first,
                deliver=lambda event: None,
                arrival_s=0.0,
                params=SamplingParams(temperature=0.0),
                num_computed_tokens=first - 1,
                block_table=list(range(1 + index * width, 1 + (index + 1) * width)),
            )
        )
    with torch.inference_mode():
        try:
            replay = graphs.placed(requests)
            for _ in range(2):
                replay()
            return seconds_each(replay, count=num_steps, device=core.runner.device)
        finally:
            graphs.forget()


@torch.inference_mode()
def fill_cache(core: EngineCore) -> None:
    """Random keys and values, so that what bare steps compute is no constant."""
    for layer in core.runner.kv_cache:
        layer.key.normal_()
        layer.value.normal_()


@contextmanager
def dense_mlps(model: CausalLM) -> Iterator[None]:
    """Have a model that skips zero rows read all of its second matrices."""
    from model.layers.triton_ops import DENSE  # Triton is not installed everywhere

    layers = squared_relu_mlps(model)
    before = [mlp.ops for mlp in layers]
    try:
        for mlp in layers:
            mlp.ops = DENSE
        yield
    finally:
        for mlp, ops in zip(layers, before, strict=True):
            mlp.ops = ops


def capture(core: EngineCore, *, backend: GraphBackend, max_tokens: int) -> DecodeGraphs:
    """Graphs of all an engine's steps beside those it has, for answers of up to `max_tokens` tokens."""
    sizes = batch_sizes(core.scheduler.max_num_requests)
    return DecodeGraphs(core.runner, backend, sizes=sizes, max_blocks=core.scheduler.pool.blocks_for(max_tokens))
