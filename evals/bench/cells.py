"""Figures and tables as the page writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def count(count: int, noun: str) -> str:
    """With its noun, in the plural where there are several."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def number(value: float) -> str:
    """Three significant digits, at least whole numbers."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    """From seconds."""
    return f"{number(1e3 * seconds)} ms"


def mebibytes(count: int) -> str:
    """From bytes."""
    return f"{number(count / 2**20)} MiB"
