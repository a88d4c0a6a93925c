"""Times on a GPU, each after the second-level cache has been filled with something else."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

LEAST_RUNS, MOST_RUNS = 10, 200
ENOUGH_MS = 60.0  # of timed work, between the numbers of runs above
FLUSH_BYTES = 1 << 29  # ten times the 50 MiB of an H100; writing it takes longer than launching what is timed
COPY_BYTES = 1 << 30  # read and written once each


class Clock:
    """Times calls on one CUDA device.

    A call is put into the stream behind a long write, so that what Python needs to launch it is over when it begins;
    what is left is the GPU's own time, gaps between several launches included.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)

    def seconds(self, call: Callable[[], Any]) -> float:
        """The median of several runs."""
        call()  # compiles
        first = self._run(call)
        count = int(min(max(ENOUGH_MS / max(first, 1e-3), LEAST_RUNS), MOST_RUNS))
        pairs = [self._start(call) for _ in range(count)]
        torch.cuda.synchronize(self.device)
        return float(statistics.median(start.elapsed_time(end) for start, end in pairs)) / 1e3

    def copy_bytes_per_s(self) -> float:
        """Bytes a copy reads and writes in a second, in tensors far larger than the cache."""
        source = torch.empty(COPY_BYTES, dtype=torch.int8, device=self.device).zero_()
        target = torch.empty_like(source)
        return 2 * COPY_BYTES / self.seconds(lambda: target.copy_(source))

    def _run(self, call: Callable[[], Any]) -> float:
        """Milliseconds of one run."""
        start, end = self._start(call)
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end))

    def _start(self, call: Callable[[], Any]) -> tuple[Any, Any]:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._flush.zero_()
        start.record()
        call()
        end.record()
        return start, end
