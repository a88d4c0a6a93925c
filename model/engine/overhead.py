"""What the engine itself costs a step, without any model: `python -m model.engine.overhead`.

64 requests decode. Timed apart: the scheduler (who computes what, blocks, contents), the batch builder (lists to
tensors), and the rest of the core (tokens appended, text decoded, chunks delivered). The model runner is replaced by
one that answers at once. Written to results/bench/scheduler.md with a profile of the scheduler.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import platform
import pstats
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from model.engine.batch_builder import build_batch, packing_order
from model.engine.block_pool import BlockPool
from model.engine.core import EngineCore
from model.engine.model_runner import StepResult
from model.engine.request import Request
from model.engine.sampler import Sampled
from model.engine.scheduler import Scheduled, Scheduler
from model.interface import SamplingParams
from model.parity.our_forward import WithoutText
from model.parity.setting import setting

NUM_REQUESTS, NUM_PROMPT_TOKENS, BLOCK_SIZE, NUM_STEPS = 64, 256, 16, 500
BOUND_US = 200.0
"""Of the scheduler, a step, at 64 running requests."""
PAGE = Path("results/bench/scheduler.md")


class Answers:
    """Stands for the model runner; every answer goes on with the same token."""

    def __init__(self) -> None:
        self.building_s: list[float] = []

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        """Nothing to copy."""

    def run(self, scheduled: Sequence[Scheduled]) -> StepResult:
        """One token for each request at its end."""
        begin = time.perf_counter()
        device = torch.device("cpu")
        packed = packing_order(scheduled, device=device)
        _, rows = build_batch(packed, block_size=BLOCK_SIZE, device=device)
        self.building_s.append(time.perf_counter() - begin)
        return StepResult(
            tokens=[(request, [Sampled(7, None)]) for request, _ in rows.sampled], scores=[], hidden_states=[]
        )


class TimedScheduler(Scheduler):
    """Adds up the time spent inside, a step."""

    spent_s = 0.0

    def schedule(self) -> list[Scheduled]:
        return self._timed(super().schedule)

    def publish(self, request: Request) -> None:
        begin = time.perf_counter()
        super().publish(request)
        self.spent_s += time.perf_counter() - begin

    def _timed(self, call: Callable[[], list[Scheduled]]) -> list[Scheduled]:
        begin = time.perf_counter()
        result = call()
        self.spent_s += time.perf_counter() - begin
        return result


def running_core(scheduler_class: type[Scheduler]) -> EngineCore:
    """A core whose 64 requests have all begun to answer."""
    num_blocks = NUM_REQUESTS * ((NUM_PROMPT_TOKENS + 2 * NUM_STEPS) // BLOCK_SIZE + 2)
    scheduler = scheduler_class(
        BlockPool(num_blocks, BLOCK_SIZE),
        max_num_requests=NUM_REQUESTS,
        max_num_batched_tokens=NUM_REQUESTS * NUM_PROMPT_TOKENS,
    )
    core = EngineCore(Answers(), scheduler, WithoutText(), eos_token_ids=())  # type: ignore[arg-type]
    for number in range(NUM_REQUESTS):
        core.add(
            Request(
                request_id=number,
                token_ids=[number] * NUM_PROMPT_TOKENS,
                num_prompt_tokens=NUM_PROMPT_TOKENS,
                deliver=lambda event: None,
                arrival_s=0.0,
                params=SamplingParams(max_tokens=None),
                max_tokens=10**6,
            )
        )
    while any(not request.num_generated for request in (*scheduler.running, *scheduler.waiting)):
        core.step()
    return core


def measure() -> tuple[dict[str, tuple[float, float]], str]:
    """Median and 95th percentile of each part in microseconds a step, and the scheduler's profile."""
    core = running_core(TimedScheduler)
    scheduler, runner = core.scheduler, core.runner
    assert isinstance(scheduler, TimedScheduler)
    assert isinstance(runner, Answers)
    runner.building_s.clear()
    scheduling, whole = [], []
    for _ in range(NUM_STEPS):
        scheduler.spent_s = 0.0
        begin = time.perf_counter()
        core.step()
        whole.append(time.perf_counter() - begin)
        scheduling.append(scheduler.spent_s)
    rest = [a - b - c for a, b, c in zip(whole, scheduling, runner.building_s, strict=True)]
    parts = {"scheduler": scheduling, "batch builder": runner.building_s, "rest of the core": rest, "together": whole}
    figures = {
        name: (statistics.median(times) * 1e6, sorted(times)[int(0.95 * len(times))] * 1e6)
        for name, times in parts.items()
    }
    profiled = running_core(Scheduler)
    profile = cProfile.Profile()
    for _ in range(NUM_STEPS):
        profile.enable()
        scheduled = profiled.scheduler.schedule()
        profile.disable()
        for item in scheduled:
            item.request.num_computed_tokens += 1
            item.request.token_ids.append(7)
            profile.enable()
            profiled.scheduler.publish(item.request)
            profile.disable()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(12)
    return figures, text.getvalue()


def render(figures: dict[str, tuple[float, float]], profile: str) -> str:
    """The page."""
    rows = "\n".join(f"| {name} | {median:.0f} | {p95:.0f} |" for name, (median, p95) in figures.items())
    table = "\n".join(line.rstrip() for line in profile.strip().splitlines())
    return f"""# What the engine costs a step

Written by `python -m model.engine.overhead`; {NUM_REQUESTS} running requests, one token each, without a model, on
{setting()["processor"]}, Python {platform.python_version()}. Microseconds a step, over {NUM_STEPS} steps.
The bound for the scheduler is {BOUND_US:.0f}.

| part | median | 95th percentile |
| --- | ---: | ---: |
{rows}

The scheduler's profile ({NUM_STEPS} steps; the profiler itself makes calls several times slower):

```
{table}
```
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the page; 1 if the scheduler is over its bound."""
    parser = argparse.ArgumentParser(description="Measure what the engine costs a step without a model.")
    parser.add_argument("--output", type=Path, default=PAGE, help=f"page to write (default {PAGE})")
    chosen = parser.parse_args(arguments)
    figures, profile = measure()
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(render(figures, profile), encoding="utf-8")
    median = figures["scheduler"][0]
    sys.stdout.write(f"scheduler: {median:.0f} us a step, bound {BOUND_US:.0f}; see {chosen.output}\n")
    return int(median > BOUND_US)


if __name__ == "__main__":
    sys.exit(main())
