"""How many rows of the second MLP matrices were live, counted where they are: in the device's memory.

The kernels add to two numbers there (`kernels.sparse_down`), which costs a step nothing and never waits. Whoever asks
for statistics gets what the last answered question brought and puts the next: on a GPU one question behind.
"""

from __future__ import annotations

import threading

import torch


class LiveRows:
    """Two counts on `device`.

    Attributes:
        counter: [2] int64, live rows and rows so far, of steps of few tokens.
    """

    def __init__(self, device: torch.device) -> None:
        self.counter = torch.zeros(2, dtype=torch.int64, device=device)
        self._seen = (0, 0)
        self._lock = threading.Lock()
        self._host: torch.Tensor | None = None
        self._done: torch.cuda.Event | None = None

    def forget(self) -> None:
        """Begin at 0: what was computed so far, such as while graphs were captured, was of no request."""
        self.counter.zero_()

    def now(self) -> tuple[int, int]:
        """Live rows and all rows so far; on a GPU it waits for what was launched."""
        live, total = self.counter.tolist()
        return live, total

    def latest(self) -> tuple[int, int]:
        """The same without waiting: on a GPU the counts of when it was asked before, if they have arrived."""
        if self.counter.device.type != "cuda":
            return self.now()
        with self._lock:
            if self._done is None or self._host is None:
                self._host = torch.zeros(2, dtype=torch.int64, pin_memory=True)
                self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            elif not self._done.query():  # type: ignore[no-untyped-call]
                return self._seen
            else:
                live, total = self._host.tolist()
                self._seen = live, total
            self._host.copy_(self.counter, non_blocking=True)
            self._done.record(torch.cuda.current_stream(self.counter.device))
            return self._seen
