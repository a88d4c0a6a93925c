"""Our engine beside lm-eval's own Hugging Face back-end: the same requests, by one command on one machine."""

from __future__ import annotations

from collections.abc import Sequence

from evals.report.blocks import Block, Cell, Heading, Row, Text, make_table, number_cell, text_cell
from evals.report.entries import Entry
from evals.report.labels import data_name
from evals.report.numbers import rate

INTRODUCTION = (
    "Items a second of our engine and of lm-eval's own `hf` back-end, where one command ran the same weights through "
    "both with the same prompts, one after the other on one machine. The time is that of asking, without loading. "
    "Undefined (–) where a part of the answers was kept from a run that had been stopped."
)


def pairs(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Engine and hf runs of the same task, weights, prompts and items by the same command."""
    found: dict[tuple[object, ...], dict[str, Entry]] = {}
    for entry in entries:
        weights, backend = entry.configuration.weights, entry.configuration.backend
        if entry.run.complete and weights is not None and backend in ("engine", "hf"):
            rope = entry.configuration.rope
            key = (entry.run.command, weights, rope, entry.data, entry.column, entry.task.prompts_sha256)
            found.setdefault(key, {})[backend] = entry
    both = [(sides["engine"], sides["hf"]) for sides in found.values() if len(sides) == 2]
    return sorted(both, key=lambda pair: (pair[0].run.command, pair[0].sort_key, pair[0].column))


def speed_blocks(entries: Sequence[Entry]) -> list[Block]:
    """The section; nothing where no command ran both."""
    rows: list[Row] = []
    found = pairs(entries)
    for ours, theirs in found:
        a, b = ours.task.items_per_s, theirs.task.items_per_s
        ratio = a / b if a is not None and b else None
        rows.append(
            {
                "model": Cell(ours.configuration.model),
                "task": Cell(ours.task.task),
                "n": number_cell(str(ours.task.num_scored), ours.task.num_scored),
                "engine, items/s": number_cell(rate(a), a),
                "hf, items/s": number_cell(rate(b), b),
                "engine / hf": number_cell(rate(ratio), ratio),
                "dtype": text_cell(_both(ours.configuration.dtype, theirs.configuration.dtype)),
                "hf batch": text_cell(theirs.run.engine.get("batch_size"), numeric=True),
                "on": text_cell(ours.run.hardware.get("gpu") or ours.run.hardware.get("processor")),
                "items": Cell(data_name(ours.data)),
                "date": Cell(ours.run.started[:10]),
            }
        )
    if not rows:
        return []
    models = [ours.configuration.model for ours, _ in found]
    table = make_table(
        "Items a second, engine and hf", rows, models=models, sources=[data_name(ours.data) for ours, _ in found]
    )
    return [Heading(2, "Speed"), Text(INTRODUCTION), table]


def _both(ours: str | None, theirs: str | None) -> str | None:
    return ours if ours == theirs else f"{ours or 'unknown'}, hf {theirs or 'unknown'}"
