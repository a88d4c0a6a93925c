"""Invented runs as they lie on disk: records and items that agree with each other, without a model."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.item_record import ItemRecord, write_items
from evals.record import ITEMS_NAME, SCHEMA, RunRecord, TaskRecord, write_record
from evals.suites import benchmark_of

HUB = {"source": "hub", "name": "Hugging Face Hub"}
DEMO = {"source": "demo", "name": "evals/data/demo"}
WEIGHTS = "c" * 64


def draw(number: int, share: float, *, seed: int = 0) -> list[bool]:
    """So many items, of which about that share is right."""
    generator = random.Random(seed)
    return [generator.random() < share for _ in range(number)]


def task_record(name: str = "adept_arc_easy", right: Sequence[bool] = (), **changes: Any) -> TaskRecord:
    """A task of which these items are right; without any, 130 of 200."""
    right = list(right) or [True] * 130 + [False] * 70
    generative = not name.startswith("likelihood")
    values: dict[str, Any] = {
        "task": name,
        "benchmark": benchmark_of(name),
        "version": "1.0",
        "form": "generative" if generative else "likelihood",
        "shots": 1 if name.startswith("adept") else 0,
        "num_scored": len(right),
        "num_available": len(right),
        "correct": {"exact_match" if generative else "acc": sum(right)},
        "clusters": None,
        "unreadable": 3 if generative else None,
        "truncated": 2 if generative else None,
        "outcomes": None,
        "suspicious": None,
        "cut_prompts": 0,
        "merged": 0,
        "failed": 0,
        "chance": None if name.endswith(("triviaqa", "humaneval")) else 0.5 if "winogrande" in name else 0.25,
        "common_answer": "B",
        "common_share": 0.3,
        "generation": {"until": [], "do_sample": False, "max_gen_toks": 8} if generative else None,
        "prompts_sha256": "a" * 64,
        "items_sha256": "b" * 64,
        "prompt_tokens": 1000,
        "answer_tokens": 100,
        "num_resumed": 0,
        "seconds": 1.5,
        "tokens_per_s": 733.3,
        "items_per_s": 133.33,
    }
    return TaskRecord(**(values | changes))


def run_record(name: str = "one", *tasks: TaskRecord, **changes: Any) -> RunRecord:
    """A run; `model` and `engine` add to what is there."""
    model = {
        "name": "persimmon-8b-base",
        "source": "adept/persimmon-8b-base",
        "revision": None,
        "family": "persimmon",
        "num_parameters": 9_400_000_000,
        "weights_sha256": WEIGHTS,
        "tokenizer_sha256": "d" * 64,
        "licence": "Apache-2.0",
        "notice": None,
        "bos": False,
        "chat_format": None,
    }
    engine = {"backend": "engine", "device": "cuda", "dtype": "bfloat16", "rope_position_dtype": "float32"}
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "run": name,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 2.0,
        "command": "2026-01-02T03:04:05+00:00",
        "complete": True,
        "limit": None,
        "seed": 0,
        "data": HUB,
        "sandbox": None,
        "hardware": {"processor": "A processor", "cores": 8, "memory_gib": 64.0, "gpu": "A GPU"},
        "versions": {"python": "3.11.2", "torch": "2.13.0", "lm-eval": "0.4.13"},
        "git": {"commit": "e" * 40, "dirty": False},
        "files": {},
        "tasks": tasks or (task_record(),),
    }
    values |= changes
    values |= {"model": model | changes.get("model", {}), "engine": engine | changes.get("engine", {})}
    return RunRecord(**values)


def other_model(name: str = "llama-2-7b", weights: str = "7") -> dict[str, Any]:
    """The identity of a model to compare with."""
    return {"name": name, "family": name.split("-")[0], "weights_sha256": weights * 64, "bos": name.startswith("llama")}


def item_records(task: str, right: Sequence[bool], *, metric: str = "exact_match") -> list[ItemRecord]:
    """Items 0, 1, ... of one task."""
    return [
        ItemRecord(
            task=task,
            item_id=f"item-{place}",
            doc_id=place,
            cluster=None,
            prompt="Question:",
            output=" B",
            answer="B" if correct else "C",
            gold="B",
            scores={metric: float(correct)},
            unreadable=False,
            truncated=False,
            failed=False,
            error=None,
            outcome=None,
            message=None,
            suspicions=(),
        )
        for place, correct in enumerate(right)
    ]


def write_run(output: Path, record: RunRecord, items: Sequence[ItemRecord] = ()) -> RunRecord:
    """Put a run into `<output>/runs`; the record as written, with the items' hash if there are some."""
    folder = output / "runs" / record.run
    folder.mkdir(parents=True)
    if items:
        write_items(folder / ITEMS_NAME, items)
        digest = hashlib.sha256((folder / ITEMS_NAME).read_bytes()).hexdigest()
        record = replace(record, files=record.files | {ITEMS_NAME: digest})
    write_record(record, folder)
    return record


def scored_run(output: Path, name: str, answers: dict[str, Sequence[bool]], **changes: Any) -> RunRecord:
    """A complete run over items of the given tasks, on disk."""
    tasks, items = [], []
    for task, right in answers.items():
        record = task_record(task, right)
        (metric,) = record.correct
        mine = item_records(task, right, metric=metric)
        common = Counter(item.answer for item in mine).most_common(1)[0]
        digest = hashlib.sha256(f"{task} {len(right)}".encode()).hexdigest()
        record = replace(
            record, common_answer=common[0], common_share=common[1] / len(mine), items_sha256=digest, unreadable=0
        )
        tasks.append(record)
        items += mine
    return write_run(output, run_record(name, *tasks, **changes), items)
