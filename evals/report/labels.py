"""Names as a reader meets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from evals.export import EMPTY
from evals.record import ITEMS_NAME, RunRecord
from evals.report.blocks import Cell, text_cell
from evals.report.entries import DEMO_SOURCE, Configuration

BENCHMARKS = {
    "mmlu": "MMLU",
    "winogrande": "WinoGrande",
    "arc_easy": "ARC Easy",
    "arc_challenge": "ARC Challenge",
    "triviaqa": "TriviaQA",
    "humaneval": "HumanEval",
}
SUITES = {
    "adept": "Adept's comparison: 1-shot, generated text",
    "likelihood": "lm-eval's own forms: 0-shot, by likelihood, but TriviaQA and HumanEval generated",
    "other": "Other tasks",
}


def benchmark_name(benchmark: str) -> str:
    """A benchmark as its authors write it."""
    return BENCHMARKS.get(benchmark, benchmark)


def data_name(data: tuple[str, str]) -> str:
    """A source of items, from its kind and name."""
    source, name = data
    if source == DEMO_SOURCE:
        return f"demonstration world ({name})"
    return f"folder {name}" if source == "folder" else name


def short_hash(digest: str | None) -> str:
    """The first digits of a hash."""
    return EMPTY if digest is None else digest[:8]


def yes_or_no(value: bool | None) -> str | None:
    """A truth value, `None` if it is unknown."""
    return None if value is None else "yes" if value else "no"


def configuration_cells(configuration: Configuration) -> dict[str, Cell]:
    """The first columns of every table of measured scores."""
    return {
        "model": Cell(configuration.model),
        "prompts": Cell("raw" if configuration.chat_format is None else f"chat: {configuration.chat_format}"),
        "backend": text_cell(configuration.backend),
        "dtype": text_cell(configuration.dtype),
        "rotary": text_cell(configuration.rope),
    }


class RowLabel(NamedTuple):
    """A row's name: its model, and in words what tells it from other rows; empty where nothing has to."""

    model: str
    told: str

    def __str__(self) -> str:
        return f"{self.model} ({self.told})" if self.told else self.model

    def cell(self) -> Cell:
        """The name as a cell."""
        return Cell(self.model, detail=f"({self.told})" if self.told else "")


def row_labels(configurations: Iterable[Configuration]) -> dict[Configuration, RowLabel]:
    """A name for each row of a board: its model, how it was asked if not as most rows were, and what tells it from rows
    of the same model."""
    rows = list(dict.fromkeys(configurations))
    usual = [Counter(values).most_common(1)[0][0] for values in zip(*map(_how, rows), strict=True)]
    labels = {}
    for row in rows:
        namesakes = [other for other in rows if other.model == row.model]
        aspects = zip(_how(row) + _what(row), *(_how(other) + _what(other) for other in namesakes), strict=True)
        varies = [(name, len(set(others)) > 1) for name, *others in aspects]
        told = [
            name
            for (name, differs), common in zip(varies, [*usual, *_what(row)], strict=True)
            if differs or name != common
        ]
        labels[row] = RowLabel(row.model, ", ".join(told))
    return labels


def items_link(run: RunRecord) -> str | None:
    """Where a run's items lie, from `results/`; `None` if it recorded none."""
    return f"runs/{quote(run.run, safe='')}/{ITEMS_NAME}" if ITEMS_NAME in run.files else None


def _how(row: Configuration) -> tuple[str, ...]:
    """How the answers came about."""
    return (
        "raw prompt" if row.chat_format is None else f"chat format {row.chat_format}",
        row.backend or "back-end unknown",
        row.dtype or "dtype unknown",
        f"rotary {row.rope or 'unknown'}",
    )


def _what(row: Configuration) -> tuple[str, ...]:
    """What two models of one name may differ in; other models differ in it anyway."""
    return (
        f"weights {short_hash(row.weights)}",
        f"tokenizer {short_hash(row.tokenizer)}",
        "BOS unknown" if row.bos is None else "BOS" if row.bos else "no BOS",
        row.address or "no endpoint",
    )
