"""What this machine reaches at most: memory read a second, and fp32 operations a second, with the threads in use."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from evals.bench.results import Roofs, rounded

REPEATS = 5  # at least
LEAST_S = 0.2  # so that reading a few megabytes is repeated more often


def measure(*, num_bytes: int = 2**30, matrix_size: int = 2048) -> Roofs:
    """The best of several ways and repeats.

    Args:
        num_bytes: of the float32 tensor that is read; far more than the caches hold.
        matrix_size: of the square matrices that are multiplied.
    """
    return Roofs(bytes_per_s=rounded(bytes_per_s(num_bytes)), operations_per_s=rounded(_operations_per_s(matrix_size)))


def bytes_per_s(num_bytes: int) -> float:
    """Read by a sum, a product with a vector (what decoding does), or a copy, which reads and writes.

    Args:
        num_bytes: read again and again; where they fit a cache it is the cache's speed, as it is for a small model's
            weights.
    """
    width = 4096
    table = torch.ones(max(num_bytes // 4 // width, 1), width)
    target = torch.empty_like(table)
    vector = torch.ones(width)
    seconds = min(
        _seconds(table.sum),
        _seconds(lambda: table @ vector),
        _seconds(lambda: target.copy_(table)) / 2,
    )
    return table.numel() * table.element_size() / seconds


def _operations_per_s(size: int) -> float:
    """A product by torch's BLAS, or by oneDNN, which on processors that are not Intel's is twice as fast."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = _seconds(lambda: a @ b)
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        one, other = a.to_mkldnn(), b.to_mkldnn()
        with torch.no_grad():
            seconds = min(seconds, _seconds(lambda: F.linear(one, other)))
    return 2 * size**3 / seconds


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of some repeats, after one that is not timed."""
    work()
    times: list[float] = []
    while len(times) < REPEATS or sum(times) < LEAST_S:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
