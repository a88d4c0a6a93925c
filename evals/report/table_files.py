"""`leaderboard.csv` and `leaderboard.tex`: the scores on the boards, for other programs and for papers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from evals import export
from evals.record import RunRecord
from evals.report.blocks import texts
from evals.report.boards import Board
from evals.report.entries import Entry
from evals.report.leaderboard import MARK, matrix, warning_text
from evals.report.numbers import rounded
from evals.scores import task_scores, task_warnings

_TASK = (
    *("num_available", "chance", "unreadable", "truncated", "failed", "suspicious", "cut_prompts", "merged"),
    *("common_answer", "common_share", "items_per_s", "tokens_per_s", "seconds", "num_resumed"),
    *("prompt_tokens", "answer_tokens", "prompts_sha256", "items_sha256"),
)


def leaderboard_csv(boards: Sequence[Board]) -> str:
    """One row for each run, task and metric on a board: every count, and where it comes from. Shares are fractions of
    1."""
    return export.to_csv(scores_table(boards))


def scores_table(boards: Sequence[Board]) -> pd.DataFrame:
    """The table of :func:`leaderboard_csv`."""
    rows = [row for board in boards for entry in board.entries for row in _rows(board, entry)]
    return pd.DataFrame(rows, dtype=object)


def leaderboard_tex(boards: Sequence[Board]) -> str:
    r"""Each board's matrix as a LaTeX table."""
    parts = ["% Needs \\usepackage{booktabs} and T1 fonts. Written by `make results`; change nothing here by hand.\n"]
    for board in boards:
        table = matrix(board)
        note = " Items of the demonstration world, not the benchmark." if board.is_demo else ""
        warned = any(warning_text(entry) for entry in board.entries)
        note += f" {MARK}: with a warning." if warned else ""
        parts.append(export.to_latex(texts(table), caption=f"{table.caption}.{note}"))
    if not boards:
        parts.append("% No complete run is recorded.\n")
    return "\n".join(parts)


def _rows(board: Board, entry: Entry) -> list[dict[str, Any]]:
    run, task = entry.run, entry.task
    counts = {name: getattr(task, name) for name in _TASK}
    counts |= {name: rounded(counts[name]) for name in ("chance", "common_share")}
    return [
        {
            "suite": board.suite,
            "task": task.task,
            "version": task.version,
            "benchmark": task.benchmark,
            "form": task.form,
            "shots": task.shots,
            "metric": metric,
            **_identity(entry),
            "score": rounded(score.value),
            "low": rounded(score.low),
            "high": rounded(score.high),
            "n": score.n,
            "correct": task.correct[metric],
            **counts,
            "outcomes": _json(task.outcomes),
            "warnings": "; ".join(task_warnings(task)),
            "generation": _json(task.generation),
            **_provenance(run),
        }
        for metric, score in task_scores(task).items()
    ]


def _identity(entry: Entry) -> dict[str, Any]:
    configuration, model, engine = entry.configuration, entry.run.model, entry.run.engine
    return {
        "model": configuration.model,
        "model_source": model.get("source"),
        "model_revision": model.get("revision"),
        "family": model.get("family"),
        "num_parameters": model.get("num_parameters"),
        "weights_sha256": configuration.weights,
        "tokenizer_sha256": configuration.tokenizer,
        "chat_format": configuration.chat_format,
        "bos": configuration.bos,
        "backend": configuration.backend,
        "device": engine.get("device"),
        "dtype": configuration.dtype,
        "rope_position_dtype": configuration.rope,
        "data_source": entry.data[0],
        "data_name": entry.data[1],
        "seed": entry.run.seed,
    }


def _provenance(run: RunRecord) -> dict[str, Any]:
    return {
        "sandbox": (run.sandbox or {}).get("level"),
        "run": run.run,
        "started": run.started,
        "command": run.command,
        "git_commit": run.git.get("commit"),
        "git_dirty": run.git.get("dirty"),
        "processor": run.hardware.get("processor"),
        "gpu": run.hardware.get("gpu"),
        **{f"version_{name.replace('-', '_')}": run.versions.get(name) for name in ("python", "torch", "lm-eval")},
    }


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)
