"""Measurements and reports of the CPU benchmark as a test needs them."""

from __future__ import annotations

from typing import Any

from evals.bench.results import (
    SCHEMA,
    GapMeasurement,
    Gaps,
    Limit,
    Measurement,
    Memory,
    Report,
    Roofs,
    Trial,
    series,
)
from evals.bench.suite import GAP

ROOFS = Roofs(bytes_per_s=1e10, operations_per_s=1e11)


def measurement(**changes: Any) -> Measurement:
    usual: dict[str, Any] = {
        "name": "arc",
        "checkpoint": "random-tiny",
        "work": "some items",
        "peer": "lm-eval hf",
        "unit": "items/s",
        "better": "higher",
        "ours": series([30.0, 31.0, 29.0]),
        "peer_runs": series([10.0, 11.0, 10.0]),
        "ratio": 3.0,
        "bar": 2.5,
        "aim": 4.0,
        "num_ties": 0,
        "ours_memory": Memory(loaded_bytes=2**20, peak_bytes=2**21),
        "peer_memory": Memory(loaded_bytes=2**20, peak_bytes=2**22),
        "setting": "sdpa, batch 8",
        "trials": (Trial(setting="sdpa, batch 8", seconds=1.0), Trial(setting="eager, batch 8", seconds=2.0)),
        "limit": Limit(bytes_s=0.1, operations_s=0.2, bytes_per_s=1e10),
        "units": 20.0,
        "notes": ("One note.",),
    }
    return Measurement(**(usual | changes))


def report(*measurements: Measurement, **changes: Any) -> Report:
    gaps = Gaps(
        alone_median=0.01,
        alone_largest=0.02,
        beside_median=0.03,
        beside_largest=0.04,
        num_tokens=12,
        prompt_tokens=3000,
        prompt_steps=12,
        prompt_alone_s=3.0,
        prompt_beside_s=3.5,
    )
    usual: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": {"processor": "P", "cores": 2, "threads": 2, "memory_gib": 8.0, "versions": {"torch": "2"}},
        "git": {"commit": None, "dirty": None},
        "data": "evals/data/demo",
        "rounds": 3,
        "checkpoints": {"random-tiny": "random weights", "not-measured": "other weights"},
        "roofs": ROOFS,
        "measurements": measurements,
        "gaps": (GapMeasurement(name=GAP, checkpoint="random-tiny", runs=(gaps,)),),
        "refusals": (),
    }
    return Report(**(usual | changes))
