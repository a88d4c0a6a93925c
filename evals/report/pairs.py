"""Models of one board compared item by item, adjusted over the whole table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pandas as pd

from evals.comparison import ItemResult, compare
from evals.comparison_table import NOTES, comparison_table
from evals.export import escape_markdown
from evals.record import RunRecord
from evals.report.blocks import Block, Cell, Heading, Row, Text, make_table, number_cell
from evals.report.boards import Board
from evals.report.entries import Configuration, Entry
from evals.report.labels import data_name, row_labels
from evals.report.leaderboard import board_title, column_name
from evals.statistics import holm

Items: TypeAlias = Callable[[RunRecord, frozenset[str]], Sequence[ItemResult] | None]
"""The items of some tasks of a run; `None` where they are not at hand."""
SUBJECT = "persimmon"  # the family that is compared with the others
_SORTED_BY = {
    "n": "n",
    "A %": "score_a",
    "B %": "score_b",
    "A - B, points": "difference",
    "only A right": "only_a",
    "only B right": "only_b",
    "p": "p_value",
    "p adjusted": "p_adjusted",
    "detectable, points": "detectable",
}


def pairs_of(board: Board) -> list[tuple[Configuration, Configuration]]:
    """Persimmon's rows with the other models', or every two rows where there are not both.

    With Persimmon, rows of one back-end are compared with each other; one whose back-end no Persimmon row has, with
    all of Persimmon's.
    """
    rows = list(board.rows)
    subjects = [row for row in rows if _family(board, row) == SUBJECT]
    others = [row for row in rows if row not in subjects]
    if not subjects or not others:
        return [(a, b) for place, a in enumerate(rows) for b in rows[place + 1 :]]
    pairs = []
    for other in others:
        near = [subject for subject in subjects if subject.backend == other.backend] or subjects
        pairs += [(subject, other) for subject in near]
    return sorted(pairs, key=lambda pair: (pair[0].sort_key, pair[1].sort_key))


def compare_pairs(board: Board, items: Items) -> pd.DataFrame:
    """As :func:`evals.comparison.compare` for each pair, with the columns `a` and `b` (:class:`RowLabel`)
    before, and Holm's adjustment over all rows.

    Raises:
        EvaluationError: items cannot be read or do not fit.
    """
    labels = row_labels(board.rows)
    pairs = pairs_of(board)
    results = {row: _results(board, row, items) for row in dict.fromkeys(row for pair in pairs for row in pair)}
    tables = []
    for a, b in pairs:
        shared = results[a].keys() & results[b].keys()
        sides = (
            [result for task in board.columns if task in shared for result in results[row][task]] for row in (a, b)
        )
        compared = compare(*sides)
        compared.insert(0, "a", pd.Series([labels[a]] * len(compared), dtype=object))
        compared.insert(1, "b", pd.Series([labels[b]] * len(compared), dtype=object))
        if len(compared):
            tables.append(compared)
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)
    table["p_adjusted"] = holm([float(p) for p in table["p_value"]])
    return table


def pair_blocks(board: Board, items: Items) -> list[Block]:
    """The table of a board; nothing where there are no two rows."""
    if not pairs_of(board):
        return []
    compared = compare_pairs(board, items)
    heading = Heading(3, escape_markdown(f"Item by item: {board_title(board)}"))
    if compared.empty:
        return [heading, Text("No two rows have a task in common whose items (`items.jsonl`) are at hand.")]
    shown, bold = comparison_table(compared)
    measures = compared.to_dict("records")
    rows: list[Row] = []
    for place, measured in enumerate(measures):
        row = {
            "A": measured["a"].cell(),
            "B": measured["b"].cell(),
            "benchmark": Cell(column_name(board, str(measured["task"]))),
            "metric": Cell(str(measured["metric"])),
        }
        for name, source in _SORTED_BY.items():
            text, strong = str(shown[name].iloc[place]), bool(bold[name].iloc[place])
            row[name] = number_cell(text, float(measured[source]), bold=strong)
        rows.append(row)
    table = make_table(
        f"Item by item: {board_title(board)}",
        rows,
        models=[f"{row['A'].text} {row['B'].text}" for row in rows],
        sources=[data_name(board.data)] * len(rows),
    )
    return [heading, Text(NOTES.strip()), table]


def _family(board: Board, row: Configuration) -> str | None:
    model = next(iter(board.rows[row].values())).run.model
    name = str(model.get("name")).casefold()
    return SUBJECT if model.get("family") is None and SUBJECT in name else model.get("family")


def _results(board: Board, row: Configuration, items: Items) -> dict[str, list[ItemResult]]:
    """The items of one row by task, each task from the run it was taken from; without tasks whose items are not at
    hand."""
    by_run: dict[str, list[Entry]] = {}
    for entry in board.rows[row].values():
        by_run.setdefault(entry.run.run, []).append(entry)
    found: dict[str, list[ItemResult]] = {}
    for entries in by_run.values():
        for result in items(entries[0].run, frozenset(entry.task.task for entry in entries)) or ():
            found.setdefault(result.task, []).append(result)
    return found
