"""What the engine counts and times."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from model.interface import Latency

NUM_LATENCIES: Final = 2048  # of the last requests, and of the last tokens
RATE_WINDOW_S: Final = 10.0
QUANTILES_EVERY_S: Final = 0.5  # sorting costs as much as a step of a small model


def latency(durations: Iterable[float]) -> Latency | None:
    """Quantiles (nearest rank) of durations in seconds; `None` of none."""
    ordered = sorted(durations)
    if not ordered:
        return None

    def quantile(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Latency(count=len(ordered), p50=quantile(0.5), p95=quantile(0.95), maximum=ordered[-1])


@dataclass(slots=True)
class Metrics:
    """Totals since the engine started, and the times of the last requests and tokens, on the engine's clock."""

    num_generated_tokens: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_finished: int = 0
    num_aborted: int = 0
    num_steps: int = 0
    ttft_s: Latency | None = None
    inter_token_s: Latency | None = None
    _first_tokens: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_LATENCIES))
    _gaps: deque[float] = field(default_factory=lambda: deque(maxlen=NUM_LATENCIES))
    _rate: deque[tuple[float, int]] = field(default_factory=deque)
    _rate_sum: int = 0
    _refreshed_s: float = -1e9

    def first_token(self, duration_s: float) -> None:
        """A request's first token came so long after the request."""
        self._first_tokens.append(duration_s)

    def next_token(self, gap_s: float) -> None:
        """A token came so long after the one before it."""
        self._gaps.append(gap_s)

    def step(self, now: float, num_generated: int) -> None:
        """A step ended in which so many of `num_generated_tokens` came."""
        self.num_steps += 1
        if num_generated:
            self._rate.append((now, num_generated))
            self._rate_sum += num_generated

    def refresh(self, now: float, *, force: bool = False) -> None:
        """Work out the quantiles again if they are old."""
        if force or now - self._refreshed_s >= QUANTILES_EVERY_S:
            self._refreshed_s = now
            self.ttft_s, self.inter_token_s = latency(self._first_tokens), latency(self._gaps)

    def tokens_per_s(self, now: float) -> float:
        """Generated tokens in the last :data:`RATE_WINDOW_S` seconds, over them."""
        while self._rate and self._rate[0][0] < now - RATE_WINDOW_S:
            self._rate_sum -= self._rate.popleft()[1]
        return self._rate_sum / RATE_WINDOW_S
