"""What the API counts of its own, beside the engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(slots=True)
class Counters:
    """Since the start; used from the event loop only.

    Attributes:
        requests: by path and status.
        durations: by path: how many requests took at most each of :data:`BUCKETS_S`, and how many there were.
        seconds: by path, all together.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    durations: dict[str, list[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def count(self, path: str, status: int, seconds: float) -> None:
        """A request ended. `path` must be a route's own, so that clients cannot make up ever more."""
        self.requests[path, status] += 1
        within = self.durations.setdefault(path, [0] * (len(BUCKETS_S) + 1))
        for place, bound in enumerate(BUCKETS_S):
            within[place] += seconds <= bound
        within[-1] += 1
        self.seconds[path] = self.seconds.get(path, 0.0) + seconds
