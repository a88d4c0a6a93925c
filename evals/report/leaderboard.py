"""A board as one matrix: a row for each model and way of asking it, a column for each benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from evals.export import EMPTY, escape_markdown
from evals.report.blocks import Block, Cell, Heading, Row, Table, Text, make_table, number_cell, text_cell
from evals.report.boards import OTHER, Board
from evals.report.entries import Configuration, Entry
from evals.report.labels import (
    SUITES,
    benchmark_name,
    configuration_cells,
    data_name,
    row_labels,
    short_hash,
    yes_or_no,
)
from evals.report.numbers import bounds, percent
from evals.report.rules import SUITE_RULES
from evals.scores import task_scores, task_warnings

MARK = "†"
LONGEST_WARNING = 160  # characters; a warning can quote an answer


def board_title(board: Board) -> str:
    """What tells a board from the others; plain text."""
    title = f"{SUITES[board.suite]}, {data_name(board.data)}"
    if board.seed:
        title += f", seed {board.seed}"
    return title if board.number == 1 else f"{title}, older items {board.number - 1}"


def column_name(board: Board, task: str) -> str:
    """The benchmark a column is about; the task itself where it belongs to no suite."""
    return task if board.suite == OTHER else benchmark_name(board.of_task(task)[0].task.benchmark)


def matrix(board: Board) -> Table:
    """The board's table; a score whose task has a warning is marked."""
    told = particulars(board.rows)
    rows: list[Row] = []
    for configuration, tasks in board.rows.items():
        row = configuration_cells(configuration) | told[configuration]
        for task in board.columns:
            row |= _score_cells(board, task, tasks.get(task))
        rows.append(row)
    caption = f"{board_title(board)}: score in % with its 95 % interval"
    models = [configuration.model for configuration in board.rows]
    return make_table(caption, rows, models=models, sources=[data_name(board.data)] * len(rows))


def matrix_blocks(board: Board) -> list[Block]:
    """The matrix under its heading, with what belongs beside it."""
    rule = SUITE_RULES.get(board.suite, "")
    items = ", ".join(
        f"{escape_markdown(column_name(board, task))} {escape_markdown(short_hash(digest))}"
        for task, (_, _, digest) in board.columns.items()
    )
    about = f"Scores in % with their 95 % intervals. {rule} The whole list is under [Rules](#rules)."
    about += f"\n\nItems, by their SHA-256: {items}."
    below = matrix_notes(board)
    blocks: list[Block] = [Heading(3, escape_markdown(board_title(board))), Text(about), matrix(board)]
    return [*blocks, Text(below)] if below else blocks


def matrix_notes(board: Board) -> str:
    """What the models say about themselves, and the warnings, as a Markdown list."""
    labels = row_labels(board.rows)
    lines = notices(board.entries)
    for task in board.columns:
        for entry in board.of_task(task):
            if found := warning_text(entry):
                who = f"{column_name(board, task)}, {labels[entry.configuration]}"
                lines.append(f"- {MARK} **Warning** {escape_markdown(who)}: {found}.")
    return "\n".join(lines)


def notices(entries: Sequence[Entry]) -> list[str]:
    """Each model's own notice, once."""
    found = {
        (str(entry.run.model.get("name")), str(entry.run.model["notice"])): None
        for entry in entries
        if entry.run.model.get("notice")
    }
    return [f"- {escape_markdown(name)}: {escape_markdown(notice)}" for name, notice in found]


def warning_text(entry: Entry) -> str:
    """The warnings of a task, escaped; empty if there is none."""
    found = [text if len(text) <= LONGEST_WARNING else f"{text[:LONGEST_WARNING]}…" for text in warnings_of(entry)]
    return "; ".join(escape_markdown(text) for text in found)


def warnings_of(entry: Entry) -> list[str]:
    """What makes a task's scores suspect, in full; plain texts."""
    sandbox = entry.run.sandbox if entry.task.outcomes is not None else None
    unheld = ["its programs ran without a sandbox"] if sandbox and sandbox.get("sandboxed") is False else []
    return task_warnings(entry.task) + unheld


def particulars(configurations: Iterable[Configuration]) -> dict[Configuration, dict[str, Cell]]:
    """Of each row the weights, and columns for what else tells rows of one model apart."""
    rows = list(dict.fromkeys(configurations))
    columns: dict[str, Callable[[Configuration], object]] = {
        "weights": lambda row: short_hash(row.weights),
        "tokenizer": lambda row: short_hash(row.tokenizer),
        "BOS": lambda row: yes_or_no(row.bos),
        "endpoint": lambda row: row.address,
    }
    models = {row.model for row in rows}
    told = [
        name
        for name, value in columns.items()
        if name == "weights" or any(len({value(row) for row in rows if row.model == model}) > 1 for model in models)
    ]
    return {row: {name: text_cell(columns[name](row)) for name in told} for row in rows}


def _score_cells(board: Board, task: str, entry: Entry | None) -> dict[str, Cell]:
    """One cell for each metric of the task's column."""
    column = board.of_task(task)
    first = column[0].task
    metrics = list(dict.fromkeys(metric for each in column for metric in each.task.correct))
    scores = {} if entry is None else task_scores(entry.task)
    mark = f" {MARK}" if entry is not None and warning_text(entry) else ""
    cells = {}
    for metric in metrics:
        name = column_name(board, task) + (f" {metric}" if len(metrics) > 1 else "")
        score = scores.get(metric)
        title = f"{name}, n = {first.num_available}"
        cells[title] = (
            number_cell(percent(score.value), score.value, detail=f"{bounds(score)}{mark}".strip())
            if score
            else number_cell(EMPTY, None)
        )
    return cells
