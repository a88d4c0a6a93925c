"""`leaderboard.json`: the scores on the boards and the published figures, as the app's page reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from evals.record import ITEMS_NAME
from evals.reference_figures import ReferenceFigure
from evals.report.boards import Board
from evals.report.entries import Entry
from evals.report.labels import benchmark_name, row_labels
from evals.report.leaderboard import board_title, column_name, warnings_of
from evals.report.numbers import rounded
from evals.scores import task_scores

SCHEMA = 1


def leaderboard_json(boards: Sequence[Board], figures: Sequence[ReferenceFigure]) -> str:
    """Every cell of every board, in the boards' order, and every published figure that has a value. Shares are
    fractions of 1, published values percent; what is undefined is `null`."""
    scores = [score for board in boards for score in _scores(board)]
    published = [
        asdict(figure) | {"benchmark": benchmark_name(figure.task)} for figure in figures if figure.value is not None
    ]
    content = {"schema": SCHEMA, "scores": scores, "published": published}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _scores(board: Board) -> list[dict[str, Any]]:
    labels = row_labels(board.rows)
    found = []
    for configuration, tasks in board.rows.items():
        for task, entry in tasks.items():
            about = {
                "board": board_title(board),
                "suite": board.suite,
                "is_demo": board.is_demo,
                "column": column_name(board, task),
                **_about(entry),
                "told": labels[configuration].told,
            }
            found += [
                about
                | {
                    "metric": metric,
                    "score": rounded(score.value),
                    "low": rounded(score.low),
                    "high": rounded(score.high),
                    "n": score.n,
                }
                for metric, score in task_scores(entry.task).items()
            ]
    return found


def _about(entry: Entry) -> dict[str, Any]:
    configuration, task, run = entry.configuration, entry.task, entry.run
    return {
        "benchmark": task.benchmark,
        "task": task.task,
        "model": configuration.model,
        "prompts": "raw" if configuration.chat_format is None else f"chat: {configuration.chat_format}",
        "backend": configuration.backend,
        "dtype": configuration.dtype,
        "rotary": configuration.rope,
        "weights_sha256": configuration.weights,
        "chance": rounded(task.chance),
        "unreadable": task.unreadable,
        "truncated": task.truncated,
        "failed": task.failed,
        "warnings": warnings_of(entry),
        "notice": run.model.get("notice"),
        "run": run.run,
        "started": run.started,
        "has_items": ITEMS_NAME in run.files,
    }
