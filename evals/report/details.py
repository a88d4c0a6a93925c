"""One table for each task of a board, with everything that is counted."""

from __future__ import annotations

from evals.export import escape_markdown
from evals.report.blocks import Block, Cell, Heading, Row, Text, make_table, number_cell, text_cell
from evals.report.boards import Board
from evals.report.entries import Entry
from evals.report.labels import configuration_cells, data_name, items_link, row_labels, yes_or_no
from evals.report.leaderboard import MARK, board_title, notices, particulars, warning_text
from evals.report.numbers import count, interval, percent, rate
from evals.report.rules import TASK_RULES
from evals.scores import task_scores
from evals.statistics import Proportion, detectable_difference, expected_discordance


def detail_blocks(board: Board) -> list[Block]:
    """The tables of a board's tasks, each with its rule above and its warnings below."""
    told = particulars(board.rows)
    blocks: list[Block] = [Heading(3, escape_markdown(f"Tasks of {board_title(board)}"))]
    for task in board.columns:
        entries = board.of_task(task)
        first = entries[0].task
        title = f"{task} (version {first.version}, {first.form}, {first.shots}-shot)"
        rows = [row for entry in entries for row in _rows(entry, board, told[entry.configuration])]
        repeated = [entry for entry in entries for _ in entry.task.correct]
        models = [entry.configuration.model for entry in repeated]
        blocks += [
            Heading(4, escape_markdown(title)),
            Text(f"{TASK_RULES.get(task, '')} {detectable(entries)}".strip()),
            make_table(
                f"{title}, {data_name(board.data)}", rows, models=models, sources=[data_name(board.data)] * len(rows)
            ),
        ]
        if notes := _notes(entries, board):
            blocks.append(Text(notes))
    return blocks


def detectable(entries: list[Entry]) -> str:
    """Which difference the task's number of items can show, for two models near the mean of the scores here."""
    scores = [score for entry in entries for score in [next(iter(task_scores(entry.task).values()))] if score.n]
    if not scores:
        return ""
    mean = sum(score.value for score in scores) / len(scores)
    n = scores[0].n
    points = percent(detectable_difference(n, expected_discordance(mean, mean)))
    return (
        f"{n} items show a paired difference of {points} points or more with 80 % power (two models near "
        f"{percent(mean)} %, items correlated by 0.5, before adjustment)."
    )


def measured_cells(metric: str, score: Proportion, entry: Entry) -> dict[str, Cell]:
    """What belongs to every measured score: the score, its interval, n, and what went wrong."""
    task = entry.task
    n = str(score.n) if task.num_scored == task.num_available else f"{score.n} of {task.num_available}"
    return {
        "metric": Cell(metric),
        "score %": number_cell(percent(score.value), score.value),
        "95 % interval": number_cell(interval(score), score.low),
        "n": number_cell(n, score.n),
        "chance %": number_cell(percent(task.chance), task.chance),
        "unreadable": number_cell(count(task.unreadable), task.unreadable),
        "truncated": number_cell(count(task.truncated), task.truncated),
        "failed": number_cell(count(task.failed), task.failed),
    }


def items_cell(entry: Entry) -> Cell:
    """A link to the run's items, one a line with prompt, answer and verdict."""
    return text_cell("items" if items_link(entry.run) else None, href=items_link(entry.run))


def _rows(entry: Entry, board: Board, told: dict[str, Cell]) -> list[Row]:
    task, run = entry.task, entry.run
    programs: dict[str, Cell] = {}
    if any(each.task.outcomes is not None for each in board.of_task(task.task)):
        programs = {
            "outcomes": text_cell(", ".join(f"{name} {number}" for name, number in (task.outcomes or {}).items())),
            "suspicious": number_cell(count(task.suspicious), task.suspicious),
            "sandbox": text_cell((run.sandbox or {}).get("level")),
        }
    return [
        {
            **configuration_cells(entry.configuration),
            **measured_cells(metric, score, entry),
            **programs,
            "items/s": number_cell(rate(task.items_per_s), task.items_per_s),
            "BOS": text_cell(yes_or_no(entry.configuration.bos)),
            **told,
            "date": Cell(run.started[:10]),
            "run": items_cell(entry),
        }
        for metric, score in task_scores(task).items()
    ]


def _notes(entries: list[Entry], board: Board) -> str:
    labels = row_labels(board.rows)
    lines = notices(entries) if not board.is_demo else []
    for entry in entries:
        if found := warning_text(entry):
            lines.append(f"- {MARK} **Warning** {escape_markdown(str(labels[entry.configuration]))}: {found}.")
    return "\n".join(lines)
