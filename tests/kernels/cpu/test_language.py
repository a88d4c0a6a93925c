"""What the CPU's kernels are written with."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from kernels.cpu import threads

if threads.missing() is not None:
    pytest.skip(f"kernels cannot run here: {threads.missing()}", allow_module_level=True)

from kernels.cpu.language import FASTMATH, exponential


@numba.njit(fastmath=FASTMATH)
def exponentials(numbers, results):  # type: ignore[no-untyped-def]
    for i in range(len(numbers)):
        results[i] = exponential(numbers[i])


def test_the_exponential_is_right_to_two_units_in_the_last_place() -> None:
    numbers = np.concatenate(
        [np.linspace(-87, 0, 400_001, dtype=np.float32), -np.logspace(-30, 1.9, 10_001, dtype=np.float32)]
    )
    results = np.empty_like(numbers)
    exponentials(numbers, results)
    exact = np.exp(numbers.astype(np.float64))
    assert np.max(np.abs(results - exact) / np.spacing(exact.astype(np.float32))) <= 2
    assert results[400_000] == 1


def test_the_exponential_of_what_has_none() -> None:
    results = np.empty(3, dtype=np.float32)
    exponentials(np.array([-np.inf, -1000, np.nan], dtype=np.float32), results)
    assert np.all((results[:2] > 0) & (results[:2] < 2e-38))
    assert np.isnan(results[2])
