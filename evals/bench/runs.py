"""What one run of one side gives back to the process that compares them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

from evals.bench import memory
from evals.bench.results import Memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Results of the requests, in order; of the three kinds those a side has.

    Attributes:
        token_ids: generated ids. texts: generated texts. scores: log-likelihood, and whether it is the greedy answer.
    """

    token_ids: tuple[tuple[int, ...], ...] = ()
    texts: tuple[str, ...] = ()
    scores: tuple[tuple[float, bool], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Wall time of the timed requests, their results, and the memory they took (with the warm-up's)."""

    seconds: float
    answers: Answers
    memory: Memory


def timed(warm_up: Callable[[], object], work: Callable[[], Answers]) -> Run:
    """Do `warm_up`, then time `work`; the model is loaded already.

    Python's garbage is collected before the clock starts: looking through all that was imported takes 0.2 s, and how
    many objects the imports made would decide whether that falls into the work.
    """
    loaded = memory.resident_bytes()
    memory.forget_peak()
    warm_up()
    gc.collect()
    start = time.perf_counter()
    answers = work()
    seconds = time.perf_counter() - start
    return Run(
        seconds=seconds,
        answers=answers,
        memory=Memory(loaded_bytes=loaded, peak_bytes=max(memory.peak_bytes(), loaded)),
    )
