"""Which failures of a step can be lived with, and how tests cause them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import torch

from model.engine.model_runner import ModelRunner, StepResult
from model.engine.scheduler import Scheduled
from model.interface import InvalidRequest

logger = logging.getLogger(__name__)

SWITCH = "PERSIMMON_TEST_FAULTS"
"""Environment variable, for tests only, such as `oom@3,error@5,fatal@7,stuck@9`: which batch (from 1) fails how."""

STUCK_S = 3600.0


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may go where this one did not."""
    # torch's allocator for the CPU raises a bare RuntimeError (c10/core/impl/alloc_cpu.cpp).
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def is_fatal(error: Exception) -> bool:
    """Whether the device is lost to this process: after an error in a CUDA kernel every later call fails too."""
    return isinstance(error, torch.AcceleratorError) and not isinstance(error, torch.OutOfMemoryError)


def cause_faults(runner: ModelRunner, plan: str) -> None:
    """Make batches fail as `plan` says (see :data:`SWITCH`).

    Raises:
        InvalidRequest: the plan is not written so.
    """
    faults: dict[int, str] = {}
    for part in filter(None, plan.split(",")):
        kind, _, number = part.strip().partition("@")
        if kind not in ("oom", "error", "fatal", "stuck") or not number.isdecimal():
            raise InvalidRequest(f"{SWITCH}={plan!r} is not allowed: write oom, error, fatal or stuck, @ and a number")
        faults[int(number)] = kind
    logger.warning("%s is set: batches will be made to fail", SWITCH)
    run, count = runner.run, 0

    def faulty(scheduled: Sequence[Scheduled]) -> StepResult:
        nonlocal count
        count += 1
        kind = faults.get(count)
        if kind == "oom":
            raise torch.OutOfMemoryError("injected: out of memory")
        if kind == "error":
            raise RuntimeError("injected: a batch failed")
        if kind == "fatal":
            raise torch.AcceleratorError("injected: the device failed")
        if kind == "stuck":
            time.sleep(STUCK_S)
        return run(scheduled)

    runner.run = faulty  # type: ignore[method-assign]
