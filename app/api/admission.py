"""Who may come in: so many answers at a time, and none once the server is ending."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Self

from app.api.errors import ApiError, unavailable

SHORTEST_RETRY_S, LONGEST_RETRY_S = 1, 60
_MEMORY = 0.9  # weight of all earlier answers in the mean time an answer takes


class Gate:
    """Counts the answers that API clients wait for; used from the event loop only.

    Args:
        num_running: answers the engine writes together; max_queue: most that wait beside them.
    """

    def __init__(self, *, num_running: int, max_queue: int) -> None:
        self.num_running = num_running
        self.limit = num_running + max_queue
        self.num_admitted = 0
        self.num_rejected = 0
        self.draining = False
        self._mean_s = 1.0

    def admit(self, size: int) -> Ticket:
        """Let a request in that wants `size` answers; leave the ticket's context when it has ended.

        Raises:
            ApiError: 400 if so many can never come in, 429 if not now, 503 once the server is ending.
        """
        if size > self.limit:
            raise ApiError(
                400, f"the request asks for {size} answers but at most {self.limit} may come at once: split it"
            )
        self.check_room(size)
        self.num_admitted += size
        return Ticket(self, size)

    def check_room(self, size: int) -> None:
        """Raise ApiError if `size` answers cannot come in now."""
        if self.draining:
            raise unavailable("the server is ending and takes no more requests: try again later")
        if self.num_admitted + size > self.limit:
            self.num_rejected += 1
            raise ApiError(
                429,
                f"the queue is full ({self.num_admitted} of {self.limit} answers are asked for): try again later",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": str(self._retry_after_s())},
            )

    def leave(self, size: int, duration_s: float) -> None:
        """A request ended."""
        self.num_admitted -= size
        self._mean_s = _MEMORY * self._mean_s + (1 - _MEMORY) * duration_s

    def _retry_after_s(self) -> int:
        """Seconds until about half the queue has been answered."""
        rounds = max(1.0, (self.limit - self.num_running) / (2 * self.num_running))
        return min(LONGEST_RETRY_S, max(SHORTEST_RETRY_S, math.ceil(self._mean_s * rounds)))


class Ticket:
    """An admitted request."""

    def __init__(self, gate: Gate, size: int) -> None:
        self._gate = gate
        self._size = size
        self._came = time.monotonic()
        self._inside = True

    def leave(self) -> None:
        """Make room; safe to call twice."""
        if self._inside:
            self._inside = False
            self._gate.leave(self._size, time.monotonic() - self._came)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
