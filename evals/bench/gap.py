"""How long a running stream waits for its next token while a prompt of thousands of tokens arrives; our engine alone.

Three readings in one process, each with prompts of its own, so that the prefix cache helps none: the stream alone, the
long prompt alone, and the same stream again with another long prompt.
"""

from __future__ import annotations

import itertools
import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.bench.results import Gaps, ResultsDiffer, rounded
from evals.bench.workloads import FIRST_PLAIN_TOKEN, SEED, Vocabulary
from model.interface import Engine, SamplingParams
from model.open_engine import open_engine

STREAM_PROMPT_TOKENS = 32
BEFORE = 16  # tokens of the stream before the long prompt arrives
AFTER = 4  # tokens of the stream after the long prompt's first token
LONGEST_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class _Read:
    """The stream's tokens, and the times of their arrival."""

    token_ids: tuple[int, ...]
    times: tuple[float, ...]

    def gaps(self, start: float, end: float) -> list[float]:
        """Waits that overlap the time from `start` to `end`."""
        return [b - a for a, b in itertools.pairwise(self.times) if b > start and a < end]


def run(checkpoint: str, *, prompt_tokens: int, stream_tokens: int) -> Gaps:
    """Measure once, with the engine's defaults.

    Args:
        prompt_tokens: of the long prompt. stream_tokens: of the stream alone, and most of it beside the prompt.

    Raises:
        ResultsDiffer: the long prompt changed the stream's tokens.
    """
    draw = random.Random(SEED)
    size = Vocabulary(Path(checkpoint)).size

    def prompt(count: int) -> list[int]:
        return [draw.randrange(FIRST_PLAIN_TOKEN, size) for _ in range(count)]

    room = 2 * (prompt_tokens + stream_tokens + STREAM_PROMPT_TOKENS) + prompt_tokens
    engine = open_engine(checkpoint, device="cpu", dtype="float32", kv_cache_tokens=room)
    try:
        engine.generate([prompt(STREAM_PROMPT_TOKENS)], _greedy(BEFORE))
        engine.generate([prompt(min(prompt_tokens, 256))], _greedy(1))
        stream_prompt = prompt(STREAM_PROMPT_TOKENS)
        alone = _read(engine, stream_prompt, stream_tokens)
        start = time.perf_counter()
        engine.generate([prompt(prompt_tokens)], _greedy(1))
        prompt_alone_s = time.perf_counter() - start
        beside, arrived, answered, steps = _read_beside(engine, stream_prompt, prompt(prompt_tokens), stream_tokens)
    finally:
        engine.close()
    together = min(len(alone.token_ids), len(beside.token_ids))
    if alone.token_ids[:together] != beside.token_ids[:together]:
        raise ResultsDiffer("the stream's tokens are others beside the long prompt")
    quiet, busy = alone.gaps(*alone.times[:: len(alone.times) - 1]), beside.gaps(arrived, answered)
    if not busy:
        raise ResultsDiffer(f"the stream of {stream_tokens} tokens ended before the long prompt was read")
    return Gaps(
        alone_median=rounded(statistics.median(quiet)),
        alone_largest=rounded(max(quiet)),
        beside_median=rounded(statistics.median(busy)),
        beside_largest=rounded(max(busy)),
        num_tokens=len(busy),
        prompt_tokens=prompt_tokens,
        prompt_steps=steps,
        prompt_alone_s=rounded(prompt_alone_s),
        prompt_beside_s=rounded(answered - arrived),
    )


def _greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True, seed=0)


def _read(engine: Engine, prompt: Sequence[int], max_tokens: int) -> _Read:
    token_ids: list[int] = []
    times: list[float] = []
    with engine.stream(prompt, _greedy(max_tokens)) as stream:
        for chunk in stream:
            if chunk.token_ids:
                token_ids += chunk.token_ids
                times.append(time.perf_counter())
    return _Read(tuple(token_ids), tuple(times))


def _read_beside(
    engine: Engine, prompt: Sequence[int], long_prompt: Sequence[int], max_tokens: int
) -> tuple[_Read, float, float, int]:
    """The stream, with the long prompt sent after its first tokens.

    Returns:
        What was read, when the long prompt was sent and answered, and the engine's steps in between.
    """
    answered: list[float] = []
    steps: list[int] = []

    def ask() -> None:
        before = engine.stats().num_steps
        engine.generate([long_prompt], _greedy(1))
        answered.append(time.perf_counter())
        steps.append(engine.stats().num_steps - before)

    asking = threading.Thread(target=ask)
    token_ids: list[int] = []
    times: list[float] = []
    arrived = float("inf")
    after = 0
    with engine.stream(prompt, _greedy(max_tokens)) as stream:
        for chunk in stream:
            if not chunk.token_ids:
                continue
            token_ids += chunk.token_ids
            times.append(time.perf_counter())
            if len(token_ids) >= BEFORE and arrived == float("inf"):
                arrived = time.perf_counter()
                asking.start()
            after += bool(answered)
            if after > AFTER:
                break
    asking.join(LONGEST_WAIT_S)
    if not answered:
        raise ResultsDiffer(f"the long prompt was not answered within {LONGEST_WAIT_S:.0f} s")
    return _Read(tuple(token_ids), tuple(times)), arrived, answered[0], steps[0]
