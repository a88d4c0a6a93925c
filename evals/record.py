"""The run record: everything needed to say what a score means, as one JSON file beside lm-eval's own.

`results/README.md` is rendered from these records alone. Undefined values are `null`, never 0.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from evals.errors import EvaluationError

SCHEMA = 2
RECORD_NAME = "run.json"
ITEMS_NAME = "items.jsonl"


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """One task of a run. All counts are of items, if nothing else is said.

    Attributes:
        task, version, shots: as in the task file. benchmark: what it asks, such as `arc_easy`. form: `generative` or
            `likelihood`.
        num_scored, num_available: items scored (those that failed are not), and items there are.
        correct: by metric, how many items are right.
        clusters: for items that share a unit (MMLU's subjects), by unit how many are right by the first metric, and how
            many were scored; `None` where items stand alone.
        unreadable, truncated: answers that could not be read; answers that reached the token limit before
            they ended. `None` where the task has no answers of its own, or cannot tell.
        outcomes, suspicious: of programs, by outcome, and how many passed that look as if they meant to cheat; `None`
            for other tasks.
        cut_prompts, merged: items with a request whose prompt was cut to fit; whose context and continuation the
            tokenizer joined. failed: items without an answer. A run with failures is not complete.
        chance: the share right by guessing evenly among the choices; `None` where there are none.
        common_answer, common_share: the answer given most often, and to which share of the items; `None` for
            programs.
        generation: lm-eval's generation options; `None` for a likelihood task.
        prompts_sha256, items_sha256: of every text sent, and of the items without their shots, both in order.
        prompt_tokens, answer_tokens: sums over requests; a context shared by several continuations counts each time.
        num_resumed: requests whose answers were kept from a run that was stopped.
        seconds: wall time of asking, without those. tokens_per_s, items_per_s: over it, or `None` if some were kept.
    """

    task: str
    benchmark: str
    version: str
    form: str
    shots: int
    num_scored: int
    num_available: int
    correct: dict[str, int]
    clusters: dict[str, list[int]] | None
    unreadable: int | None
    truncated: int | None
    outcomes: dict[str, int] | None
    suspicious: int | None
    cut_prompts: int
    merged: int
    failed: int
    chance: float | None
    common_answer: str | None
    common_share: float | None
    generation: dict[str, Any] | None
    prompts_sha256: str
    items_sha256: str
    prompt_tokens: int
    answer_tokens: int
    num_resumed: int
    seconds: float
    tokens_per_s: float | None
    items_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run.

    Attributes:
        run: name of its folder. started: UTC, ISO 8601. seconds: wall time of the whole run. command: when the command
            started that made this and perhaps other runs, on the same machine one after the other.
        model, engine: the identity of the answers and how they were computed (see `evals.models`). `backend` is
            `engine`, `hf` or `endpoint`; `chat_format` is the format prompts were wrapped in, `None` for the raw
            prompt; `bos` whether a BOS was put first. What an endpoint does not say is `null`.
        sandbox: which sandbox ran the programs, `None` if there were none.
        data: `source` (`hub`, `demo`, `folder`) and its `name`. seed: of the shots and of lm-eval's
        generators.
        limit: most items of a task, or `None`. complete: every item of every task was scored, and none
        failed.
        files: SHA-256 of lm-eval's files and of the items (`evals.item_record`), by name.
    """

    schema: int
    run: str
    started: str
    seconds: float
    command: str
    complete: bool
    limit: int | None
    seed: int
    model: dict[str, Any]
    engine: dict[str, Any]
    data: dict[str, Any]
    sandbox: dict[str, Any] | None
    hardware: dict[str, Any]
    versions: dict[str, Any]
    git: dict[str, Any]
    files: dict[str, str]
    tasks: tuple[TaskRecord, ...]


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write `record` into `folder` and read it back.

    Raises:
        EvaluationError: what was written is not what was meant.
    """
    path = folder / RECORD_NAME
    text = json.dumps(asdict(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")
    if read_record(path) != record:
        raise EvaluationError(f"{path.name} does not read back as it was written: check the disk and run again")
    return path


def read_record(path: Path) -> RunRecord:
    """The record in a file.

    Raises:
        EvaluationError: it is no record of this schema.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvaluationError(f"{name} cannot be read ({error}): remove the folder or run again") from None
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise EvaluationError(f"{name} is no run record of schema {SCHEMA}: remove the folder or run again")
    try:
        tasks = tuple(TaskRecord(**task) for task in raw.pop("tasks"))
        return RunRecord(**raw, tasks=tasks)
    except (KeyError, TypeError):
        expected = ", ".join(field.name for field in fields(RunRecord))
        raise EvaluationError(f"{name} lacks or adds a key: a record has {expected}") from None
