"""One task of one run, and what makes it the same as or another than a second one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from evals.record import RunRecord, TaskRecord

DEMO_SOURCE = "demo"
ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What makes one row of a board: whose answers they are and how they were computed.

    `None` is what a back-end does not say. `chat_format` is `None` for the raw prompt; `address` is an endpoint's.
    """

    model: str
    chat_format: str | None
    backend: str | None
    dtype: str | None
    rope: str | None
    weights: str | None
    tokenizer: str | None
    bos: bool | None
    address: str | None

    @property
    def sort_key(self) -> tuple[str, ...]:
        """By name; the raw prompt comes before a chat format."""
        return tuple("" if value is None else str(value) for value in astuple(self))


@dataclass(frozen=True, slots=True)
class Entry:
    """One task of one run."""

    run: RunRecord
    task: TaskRecord

    @property
    def configuration(self) -> Configuration:
        """The row this belongs to."""
        model, engine = self.run.model, self.run.engine
        backend = engine.get("backend")
        return Configuration(
            model=str(model.get("name")),
            chat_format=model.get("chat_format"),
            backend=backend,
            dtype=engine.get("dtype"),
            rope=engine.get("rope_position_dtype"),
            weights=model.get("weights_sha256"),
            tokenizer=model.get("tokenizer_sha256"),
            bos=model.get("bos"),
            address=model.get("source") if backend == ENDPOINT else None,
        )

    @property
    def column(self) -> tuple[str, str, str]:
        """The column this belongs to: task, version and items. Only what has all three in common is set side by
        side."""
        return self.task.task, self.task.version, self.task.items_sha256

    @property
    def seed(self) -> int:
        """Of the shots; 0 where there are none, as it decides nothing then."""
        return self.run.seed if self.task.shots else 0

    @property
    def data(self) -> tuple[str, str]:
        """Kind and name of the source of items."""
        return str(self.run.data.get("source")), str(self.run.data.get("name"))

    @property
    def is_demo(self) -> bool:
        """Whether the items are the demonstration world's."""
        return self.data[0] == DEMO_SOURCE

    @property
    def identity(self) -> tuple[object, ...]:
        """What must be equal for a later run to take this one's place."""
        generation = json.dumps(self.task.generation, sort_keys=True, default=str)
        return self.configuration, self.column, self.data, self.task.prompts_sha256, generation

    @property
    def sort_key(self) -> tuple[object, ...]:
        """By row, then the oldest first."""
        return self.configuration.sort_key, self.run.started, self.run.run


def entries_of(records: Iterable[RunRecord]) -> list[Entry]:
    """Every task of every run, the oldest run first."""
    ordered = sorted(records, key=lambda record: (record.started, record.run))
    return [Entry(record, task) for record in ordered for task in record.tasks]


def shown(entries: Iterable[Entry]) -> list[Entry]:
    """Of complete runs, the latest of each identity; `entries` come oldest first."""
    latest = {entry.identity: entry for entry in entries if entry.run.complete}
    return list(latest.values())
