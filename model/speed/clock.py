"""How long work on a device takes, and how fast it copies and multiplies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from kernels.bench.clock import Clock

CPU_COPY_BYTES = 1 << 26
MATRIX_SIZE = {"cuda": 8192, "cpu": 512}


def seconds_each(call: Callable[[], object], *, count: int, device: torch.device) -> float:
    """Mean time of `count` calls in a row: on a GPU its own, between two events."""
    if device.type != "cuda":
        begin = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - begin) / count
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(count):
        call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / count


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes that a copy reads and writes in a second."""
    if device.type == "cuda":
        rate = Clock(device).copy_bytes_per_s()
        torch.cuda.empty_cache()
        return rate
    source = torch.zeros(CPU_COPY_BYTES, dtype=torch.int8)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * CPU_COPY_BYTES / _median(lambda: target.copy_(source), device, count=1)


def product_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a product of large square matrices of random numbers."""
    size = MATRIX_SIZE[device.type]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * size**3 / _median(lambda: a @ b, device, count=10)


def _median(call: Callable[[], object], device: torch.device, *, count: int) -> float:
    return statistics.median(seconds_each(call, count=count, device=device) for _ in range(5))
