"""The engines' load over the last ten minutes, sampled by one thread whether or not somebody looks."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model.interface import Engine, EngineError, EngineStats

EVERY_S = 2.0
KEPT_S = 600.0


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One engine's load at one moment.

    Attributes:
        time_s: of the monotonic clock.
        tokens_per_s: generated since the sample before, over the time since; `None` for the first.
    """

    time_s: float
    tokens_per_s: float | None
    num_running: int
    num_waiting: int
    num_generated_tokens: int


class LoadHistory:
    """Samples of every engine's load, oldest first; safe to read from any thread.

    Sampling ends by itself once all engines are closed.

    Args:
        engines: by name. clock: seconds, for tests.
    """

    def __init__(self, engines: Mapping[str, Engine], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = dict(engines)
        self._clock = clock
        self._samples: dict[str, deque[LoadSample]] = {
            name: deque(maxlen=int(KEPT_S / EVERY_S) + 1) for name in engines
        }

    def start(self) -> None:
        """Sample from now on, in a thread that does not keep the process alive."""
        threading.Thread(target=self._run, name="load-history", daemon=True).start()

    def sample(self) -> bool:
        """Take one sample of every engine that is open; whether there was one."""
        is_any_open = False
        for name, engine in self._engines.items():
            stats = stats_of(engine)
            if stats is not None:
                is_any_open = True
                self._samples[name].append(self._next(name, stats))
        return is_any_open

    def of(self, name: str) -> tuple[LoadSample, ...]:
        """One engine's samples."""
        return tuple(self._samples[name].copy())

    def _next(self, name: str, stats: EngineStats) -> LoadSample:
        now, samples = self._clock(), self._samples[name]
        rate = None
        if samples and now > samples[-1].time_s:
            rate = (stats.num_generated_tokens - samples[-1].num_generated_tokens) / (now - samples[-1].time_s)
        return LoadSample(now, rate, stats.num_running, stats.num_waiting, stats.num_generated_tokens)

    def _run(self) -> None:
        while self.sample():
            time.sleep(EVERY_S)


def stats_of(engine: Engine) -> EngineStats | None:
    """The engine's load; `None` once it is closed."""
    try:
        stats = engine.stats()
    except EngineError:
        return None
    return None if stats.is_closed else stats
