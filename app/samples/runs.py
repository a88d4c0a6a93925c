"""The recorded runs of `results/runs/`, as the sample browser lists them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ITEMS_NAME = "items.jsonl"
RECORD_NAME = "run.json"
SCHEMA = 2  # of run.json


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task of a run: its metrics, the first being the one a verdict goes by, and the hash of its items."""

    metrics: tuple[str, ...]
    items_sha256: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run whose items were kept.

    Attributes:
        name: of its folder. label: the model and how it was asked. tasks: by name.
    """

    name: str
    label: str
    folder: Path
    tasks: Mapping[str, TaskSummary]

    @property
    def items(self) -> Path:
        """The file of its items."""
        return self.folder / ITEMS_NAME

    @property
    def metrics(self) -> list[str]:
        """Of all tasks."""
        return list(dict.fromkeys(metric for task in self.tasks.values() for metric in task.metrics))


def list_runs(results: Path) -> dict[str, Run]:
    """By name, the newest first. Folders without items, or with a record of another kind, are left out."""
    found = []
    for folder in (results / "runs").glob("*/"):
        try:
            changed = (folder / RECORD_NAME).stat().st_mtime_ns
            if (folder / ITEMS_NAME).is_file() and (read := _read(folder, changed)) is not None:
                found.append(read)
        except OSError:  # removed meanwhile, or never finished
            continue
    return {run.name: run for _, run in sorted(found, key=lambda one: one[0], reverse=True)}


@lru_cache(maxsize=1024)
def _read(folder: Path, changed: int) -> tuple[str, Run] | None:
    """When a run started, and the run; `None` for another kind of record."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            return None
        model, started = record["model"], str(record["started"])
        prompts = "raw prompts" if model["chat_format"] is None else f"chat format {model['chat_format']}"
        complete = "" if record["complete"] else ", partial"
        label = f"{model['name']}, {prompts}, {record['engine']['backend']}, {started[:16].replace('T', ' ')}{complete}"
        tasks = {
            str(task["task"]): TaskSummary(tuple(task["correct"]), str(task["items_sha256"]))
            for task in record["tasks"]
        }
    except (ValueError, KeyError, TypeError):
        return None
    return started, Run(folder.name, label, folder, tasks)
