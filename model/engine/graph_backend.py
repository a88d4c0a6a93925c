"""What capturing and replaying a step needs of a device. All calls are carried out in the order they are made, without
waiting; only what `download` returns waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Replay = Callable[[], None]
NUM_WARM_UPS = 2  # the first compiles kernels and picks the libraries' algorithms, the second runs as the capture will


class GraphBackend(Protocol):
    """A device that can record a callable and run it again on the tensors it used."""

    def capture(self, step: Callable[[], None]) -> Replay:
        """Record `step`, which reads and writes tensors that stay where they are; calling the result runs it again."""
        ...

    def upload(self, target: Tensor, values: Tensor) -> None:
        """Copy `values`, on the host and not changed afterwards, into `target`."""
        ...

    def upload_at(self, target: Tensor, places: Tensor, values: Tensor) -> None:
        """Write `values` [n], on the host, at `places` [n] int64 of `target` [m]."""
        ...

    def download(self, source: Tensor) -> Callable[[], Tensor]:
        """Copy `source` as it is now in this order; calling the result waits for the copy on the host."""
        ...

    def num_free_bytes(self) -> int:
        """Of the device's memory."""
        ...


class CudaGraphBackend:
    """Graphs of one GPU, all in one memory pool: only one of them runs at a time.

    Captures of one process may run beside the steps of another engine's thread, so errors are looked for in this thread
    alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, step: Callable[[], None]) -> Replay:
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(stream):
                for _ in range(NUM_WARM_UPS):
                    step()
            torch.cuda.current_stream(self._device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                step()
        return graph.replay

    def upload(self, target: Tensor, values: Tensor) -> None:
        # The allocator of pinned memory keeps a block until the copies from it are done.
        target.copy_(values.pin_memory(), non_blocking=True)

    def upload_at(self, target: Tensor, places: Tensor, values: Tensor) -> None:
        both = torch.stack((places, values)).pin_memory().to(self._device, non_blocking=True)
        target.index_copy_(0, both[0], both[1])

    def download(self, source: Tensor) -> Callable[[], Tensor]:
        host = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
        host.copy_(source, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))

        def wait() -> Tensor:
            done.synchronize()
            return host

        return wait

    def num_free_bytes(self) -> int:
        return torch.cuda.mem_get_info(self._device)[0]
