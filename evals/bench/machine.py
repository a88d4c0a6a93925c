"""The machine and the libraries a figure was measured with."""

from __future__ import annotations

import os
from typing import Any

import psutil

from evals.provenance import hardware, versions

LIBRARIES = ("python", "torch", "transformers", "lm-eval")


def usable_threads() -> int:
    """Cores this process may use, without their second threads: torch's own choice."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def describe(threads: int) -> dict[str, Any]:
    """Processor, cores, threads in use, memory, and versions."""
    found = hardware("cpu")
    return {
        "processor": found["processor"],
        "cores": found["cores"],
        "threads": threads,
        "memory_gib": found["memory_gib"],
        "versions": {name: version for name, version in versions().items() if name in LIBRARIES},
    }
