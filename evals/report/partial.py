"""Runs that are not complete: they are listed, and stand on no board."""

from __future__ import annotations

from collections.abc import Sequence

from evals.report.blocks import Block, Cell, Heading, Row, Text, make_table
from evals.report.details import items_cell, measured_cells
from evals.report.entries import Entry
from evals.report.labels import configuration_cells, data_name
from evals.scores import task_scores

INTRODUCTION = (
    "Cut short by `--limit`, or with items that failed: for a look, not for comparison. They enter no leaderboard, no "
    "plot and no `leaderboard.csv`."
)


def partial_blocks(entries: Sequence[Entry]) -> list[Block]:
    """The section; nothing where every run is complete."""
    partial = [entry for entry in entries if not entry.run.complete]
    if not partial:
        return []
    rows: list[Row] = []
    models: list[str] = []
    sources: list[str] = []
    for entry in sorted(partial, key=lambda entry: (entry.task.task, entry.sort_key)):
        for metric, score in task_scores(entry.task).items():
            cells = measured_cells(metric, score, entry)
            rows.append(
                {
                    **configuration_cells(entry.configuration),
                    "task": Cell(entry.task.task),
                    **cells,
                    "why": Cell(_why(entry)),
                    "source": Cell(data_name(entry.data)),
                    "date": Cell(entry.run.started[:10]),
                    "run": items_cell(entry),
                }
            )
            models.append(entry.configuration.model)
            sources.append(data_name(entry.data))
    table = make_table("Partial runs", rows, models=models, sources=sources)
    return [Heading(2, "Partial runs"), Text(INTRODUCTION), table]


def _why(entry: Entry) -> str:
    """Why the run is not complete; one of its other tasks may be the reason."""
    reasons = [f"limit {entry.run.limit}"] if entry.run.limit is not None else []
    if entry.task.failed:
        reasons.append(f"{entry.task.failed} failed")
    return ", ".join(reasons) or "another task of the run is not complete"
