"""The items of ARC (Clark et al. 2018, arXiv:1803.05457) from whichever source a run names."""

from __future__ import annotations

from typing import Any

from evals.data import HUB, Benchmark, load
from evals.rows import read_multiple_choice

ARC_EASY = Benchmark(
    name="arc_easy",
    hub_path="allenai/ai2_arc",
    hub_config="ARC-Easy",
    scored_split="test",
    shot_split="train",
    read_row=read_multiple_choice,
)


def arc_easy(*, data: str = HUB, seed: int = 0, shots: int = 0, **other_metadata: object) -> Any:
    """The `custom_dataset` of the ARC-Easy tasks. lm-eval passes the whole task metadata, hence `other_metadata`."""
    return load(ARC_EASY, data=data, shots=shots, seed=seed)
