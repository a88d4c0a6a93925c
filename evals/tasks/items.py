"""The six benchmarks of Adept's comparison, and the `custom_dataset` function of each for the task files.

Each function gives a `datasets.DatasetDict` with the single split `test` (see `evals.data.load`) from whichever source
a run names. lm-eval passes a task's whole metadata, hence `other_metadata`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evals.benchmark import Benchmark
from evals.data import HUB, load
from evals.rows import read_humaneval, read_mmlu, read_multiple_choice, read_triviaqa, read_winogrande

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        # Hendrycks et al. 2021, arXiv:2009.03300; its dev split is made for shots, five a subject
        Benchmark(
            name="mmlu",
            hub_path="cais/mmlu",
            hub_config="all",
            scored_split="test",
            shot_split="dev",
            read_row=read_mmlu,
            has_ids=False,
            same_column="subject",
        ),
        # Sakaguchi et al. 2020, arXiv:1907.10641; the labels of its test split are not public
        Benchmark(
            name="winogrande",
            hub_path="allenai/winogrande",
            hub_config="winogrande_xl",
            scored_split="validation",
            shot_split="train",
            read_row=read_winogrande,
            has_ids=False,
            text_column="sentence",
        ),
        # Clark et al. 2018, arXiv:1803.05457
        Benchmark(
            name="arc_easy",
            hub_path="allenai/ai2_arc",
            hub_config="ARC-Easy",
            scored_split="test",
            shot_split="train",
            read_row=read_multiple_choice,
        ),
        Benchmark(
            name="arc_challenge",
            hub_path="allenai/ai2_arc",
            hub_config="ARC-Challenge",
            scored_split="test",
            shot_split="train",
            read_row=read_multiple_choice,
        ),
        # Joshi et al. 2017, arXiv:1705.03551; the answers of its test split are not public
        Benchmark(
            name="triviaqa",
            hub_path="mandarjoshi/trivia_qa",
            hub_config="rc.nocontext",
            scored_split="validation",
            shot_split="train",
            read_row=read_triviaqa,
        ),
        # Chen et al. 2021, arXiv:2107.03374
        Benchmark(
            name="humaneval",
            hub_path="openai/openai_humaneval",
            hub_config="openai_humaneval",
            scored_split="test",
            shot_split="test",
            read_row=read_humaneval,
            text_column="prompt",
            shots_are_items=True,
        ),
    )
}


def _dataset(name: str) -> Callable[..., Any]:
    def dataset(*, data: str = HUB, seed: int = 0, shots: int = 0, **other_metadata: object) -> Any:
        return load(BENCHMARKS[name], data=data, num_shots=shots, seed=seed)

    return dataset


mmlu = _dataset("mmlu")
winogrande = _dataset("winogrande")
arc_easy = _dataset("arc_easy")
arc_challenge = _dataset("arc_challenge")
triviaqa = _dataset("triviaqa")
humaneval = _dataset("humaneval")
