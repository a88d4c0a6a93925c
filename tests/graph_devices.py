"""Devices that capture and replay on a CPU: one that is as fast as can be, and one that is as slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor


class PromptDevice:
    """Does at once what it is told."""

    def __init__(self) -> None:
        self.num_captured = 0

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        self.num_captured += 1
        step()
        return step

    def upload(self, target: Tensor, values: Tensor) -> None:
        target.copy_(values)

    def upload_at(self, target: Tensor, places: Tensor, values: Tensor) -> None:
        assert len(places.unique()) == len(places), "which of two values is written to one place is left to chance"
        target[places] = values

    def download(self, source: Tensor) -> Callable[[], Tensor]:
        found = source.clone()
        return lambda: found

    def num_free_bytes(self) -> int:
        return 0


class LateDevice(PromptDevice):
    """Does nothing until somebody waits, and then all that came before, in order: whatever the host changes between the
    telling and the waiting shows."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: deque[Callable[[], object]] = deque()

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        super().capture(step)
        return lambda: self.pending.append(step)

    def upload(self, target: Tensor, values: Tensor) -> None:
        self.pending.append(lambda: target.copy_(values))

    def upload_at(self, target: Tensor, places: Tensor, values: Tensor) -> None:
        super_upload = super().upload_at
        self.pending.append(lambda: super_upload(target, places, values))

    def download(self, source: Tensor) -> Callable[[], Tensor]:
        found: list[Tensor] = []
        self.pending.append(lambda: found.append(source.clone()))

        def wait() -> Tensor:
            with torch.inference_mode():
                while not found:
                    self.pending.popleft()()
            return found[0]

        return wait
