"""`results/README.md`, rendered from the run records alone: the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from evals.errors import EvaluationError
from evals.record import RECORD_NAME, RunRecord, TaskRecord, read_record
from evals.statistics import wilson

PAGE = "README.md"
EMPTY = "–"

INTRODUCTION = """# Results

Written by `python -m evals report` from the records in `runs/*/run.json`; change nothing here by hand. Each run's
folder also holds lm-eval's own results and samples.
"""

RULES = """## Rules

The prompts are Adept's own ([prompts.md](https://github.com/persimmon-ai-labs/adept-inference/blob/main/prompts.md),
Apache-2.0), to the letter. What the source does not say, and what is done here:

- **Decoding** greedy. **Rotary positions** in the type each row names (`float32` as Hugging Face).
- **Shot** (generative form) one per item, fixed by a seeded hash of the item's id, never the scored item. From the Hub
  it comes from the train split, from a folder from its shot file, or else from 16 rows that are then never scored.
- **End of an answer** the first newline after the first character that is not blank, the end of the document, or
  8 tokens; `truncated` counts answers that reached 8 tokens without an end.
- **Reading** the first stand-alone letter among those offered; else the item is wrong and counted as `unreadable`.
- **BOS** none for Persimmon, as Adept's server, and none for MPT; `<s>` for Llama. **Chat format** none: the raw
  prompt.
- **Likelihood form** lm-eval's own `arc_easy`, 0-shot: `acc` takes the likeliest choice, `acc_norm` the likeliest per
  character.
- **Interval** 95 %, Wilson. **Chance** guessing evenly among an item's choices; a score whose interval holds it
  or lies below it is marked.
- Of several complete runs with the same model, settings and items the table shows the latest.
"""


@dataclass(frozen=True)
class _Line:
    """One task of one run."""

    run: RunRecord
    task: TaskRecord

    @property
    def identity(self) -> tuple[object, ...]:
        """What must be equal for a later run to replace an earlier one in the table."""
        run, task = self.run, self.task
        return (
            *(run.model[key] for key in ("name", "weights_sha256", "tokenizer_sha256", "chat_format", "bos")),
            *(run.engine[key] for key in ("dtype", "rope_position_dtype")),
            *(run.data[key] for key in ("source", "name")),
            *(task.task, task.version, task.prompts_sha256, task.items_sha256, str(task.generation)),
        )


def read_records(output: Path) -> list[RunRecord]:
    """All records under `<output>/runs`, oldest first.

    Raises:
        EvaluationError: a record cannot be read.
    """
    records = [read_record(path) for path in sorted((output / "runs").glob(f"*/{RECORD_NAME}"))]
    return sorted(records, key=lambda record: (record.started, record.run))


def write_report(output: Path) -> Path:
    """Render and write the page, and read it back.

    Raises:
        EvaluationError: a record cannot be read, or the page was not written.
    """
    page = render(read_records(output))
    path = output / PAGE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        written = path.read_text(encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{path} cannot be written ({error.strerror}): choose another --output") from None
    if written != page:
        raise EvaluationError(f"{path} does not read back as it was written: check the disk and run again")
    return path


def render(records: Iterable[RunRecord]) -> str:
    """The page of these records."""
    lines = [_Line(run, task) for run in records for task in run.tasks]
    complete = _latest(line for line in lines if line.run.complete)
    real = [line for line in complete if line.run.data["source"] != "demo"]
    demo = [line for line in complete if line.run.data["source"] == "demo"]
    partial = [line for line in lines if not line.run.complete]
    parts = [INTRODUCTION]
    parts += ["## Benchmarks\n", *_boards(real, empty="No complete run over a benchmark's own items is recorded.")]
    parts += [
        "## Demonstration world\n",
        "Items invented for this project, which share a benchmark's form and nothing else: these runs show that\n"
        "everything works, and say nothing about the benchmark.\n",
        *_boards(demo, empty="No run is recorded."),
    ]
    if partial:
        parts += [
            "## Partial runs\n",
            "Cut short by `--limit`, or with requests that failed: for a look, not for comparison.\n",
            *_boards(partial, empty=""),
        ]
    parts.append(RULES)
    return "\n".join(parts)


def warnings(task: TaskRecord) -> list[str]:
    """What makes a task's scores suspect: one answer throughout, no score above chance, or requests gone wrong."""
    found = []
    if task.common_share == 1 and task.num_scored > 1:
        found.append(f"every answer is {task.common_answer or 'unreadable'}")
    for metric, correct in task.correct.items():
        score = wilson(correct, task.num_scored)
        if task.chance is not None and score.contains(task.chance):
            found.append(f"{metric} is at chance")
        elif task.chance is not None and score.high < task.chance:
            found.append(f"{metric} is below chance")
    if task.failed:
        found.append(f"requests that failed: {task.failed}")
    if task.cut_prompts:
        found.append(f"prompts cut to fit: {task.cut_prompts}")
    return found


def _latest(lines: Iterable[_Line]) -> list[_Line]:
    return list({line.identity: line for line in lines}.values())  # records come oldest first


def _boards(lines: Sequence[_Line], *, empty: str) -> list[str]:
    """One table a task, and under it the models' notices and the warnings."""
    if not lines:
        return [f"{empty}\n"]
    parts = []
    for name, version in sorted({(line.task.task, line.task.version) for line in lines}):
        board = [line for line in lines if (line.task.task, line.task.version) == (name, version)]
        board.sort(key=lambda line: (line.run.model["name"], line.run.started, line.run.run))
        first = board[0].task
        parts.append(f"### `{name}` (version {version}, {first.form}, {first.shots}-shot)\n")
        rows = [row for line in board for row in _rows(line)]
        parts.append(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) + "\n")
        notes = list(dict.fromkeys(f"- {run.model['name']}: {run.model['notice']}" for run in _noticed(board)))
        for line in board:
            if found := warnings(line.task):
                notes.append(f"- **Warning** `{line.run.run}`: {'; '.join(found)}.")
        if notes:
            parts.append("\n".join(notes) + "\n")
    return parts


def _noticed(board: Iterable[_Line]) -> list[RunRecord]:
    return [line.run for line in board if line.run.model["notice"]]


def _items(line: _Line) -> str:
    kind = "folder " if line.run.data["source"] == "folder" else ""
    return f"{kind}{line.run.data['name']} ({line.task.items_sha256[:8]})"


def _rows(line: _Line) -> list[dict[str, str]]:
    run, task = line.run, line.task
    rows = []
    for metric, correct in task.correct.items():
        score = wilson(correct, task.num_scored)
        rows.append(
            {
                "model": run.model["name"],
                "metric": metric,
                "score %": _percent(score.value),
                "95 % interval": f"{_percent(score.low)} to {_percent(score.high)}" if score.n else EMPTY,
                "n": str(score.n) if task.num_scored == task.num_available else f"{score.n} of {task.num_available}",
                "chance %": EMPTY if task.chance is None else _percent(task.chance),
                "unreadable": _count(task.unreadable),
                "truncated": _count(task.truncated),
                "failed": _count(task.failed),
                "dtype": run.engine["dtype"],
                "rotary": run.engine["rope_position_dtype"],
                "items": _items(line),
                "weights": run.model["weights_sha256"][:8],
                "run": run.started[:10],
            }
        )
    return rows


def _percent(share: float) -> str:
    return EMPTY if share != share else f"{100 * share:.1f}"


def _count(count: int | None) -> str:
    return EMPTY if count is None else str(count)
