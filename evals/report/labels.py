"""Names as a reader meets them."""

from __future__ import annotations

from collections.abc import Iterable
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


def prompts_name(chat_format: str | None) -> str:
    """How prompts were put: raw, or in a chat format."""
    return "raw" if chat_format is None else f"chat format {chat_format}"


def configuration_cells(configuration: Configuration) -> dict[str, Cell]:
    """The first columns of every table of measured scores."""
    return {
        "model": Cell(configuration.model),
        "prompts": Cell(prompts_name(configuration.chat_format)),
        "back-end": text_cell(configuration.backend),
        "dtype": text_cell(configuration.dtype),
        "rotary": text_cell(configuration.rope),
    }


def row_labels(configurations: Iterable[Configuration]) -> dict[Configuration, str]:
    """A name for each row of a board: its model, and of the rest only what tells rows apart."""
    rows = list(dict.fromkeys(configurations))
    labels = {}
    for row in rows:
        namesakes = [other for other in rows if other.model == row.model]
        told = [name for name, *others in zip(_how(row), *map(_how, rows), strict=True) if len(set(others)) > 1]
        told += [name for name, *others in zip(_what(row), *map(_what, namesakes), strict=True) if len(set(others)) > 1]
        labels[row] = f"{row.model} ({', '.join(told)})" if told else row.model
    return labels


def items_link(run: RunRecord) -> str | None:
    """Where a run's items lie, from `results/`; `None` if it recorded none."""
    return f"runs/{quote(run.run, safe='')}/{ITEMS_NAME}" if ITEMS_NAME in run.files else None


def _how(row: Configuration) -> tuple[str, ...]:
    """How the answers came about."""
    return (
        "raw prompt" if row.chat_format is None else prompts_name(row.chat_format),
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
