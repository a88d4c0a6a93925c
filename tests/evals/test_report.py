"""The results page: from records alone, the same bytes each time, and nothing where it does not belong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from evals.errors import EvaluationError
from evals.record import SCHEMA, RunRecord, TaskRecord, read_record, write_record
from evals.report import read_records, render, write_report


def task(**changes: Any) -> TaskRecord:
    values: dict[str, Any] = {
        "task": "adept_arc_easy",
        "version": "1.0",
        "form": "generative",
        "shots": 1,
        "num_scored": 200,
        "num_available": 200,
        "correct": {"exact_match": 130},
        "unreadable": 3,
        "truncated": 2,
        "cut_prompts": 0,
        "merged": 0,
        "failed": 0,
        "chance": 0.25,
        "common_answer": "B",
        "common_share": 0.3,
        "generation": {"until": [], "do_sample": False, "max_gen_toks": 8},
        "prompts_sha256": "a" * 64,
        "items_sha256": "b" * 64,
        "prompt_tokens": 1000,
        "answer_tokens": 100,
        "seconds": 1.5,
        "tokens_per_s": 733.3,
    }
    return TaskRecord(**(values | changes))


def record(name: str = "one", *, tasks: tuple[TaskRecord, ...] | None = None, **changes: Any) -> RunRecord:
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "run": name,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 2.0,
        "complete": True,
        "limit": None,
        "seed": 0,
        "model": {
            "name": "persimmon-demo",
            "weights_sha256": "c" * 64,
            "tokenizer_sha256": "d" * 64,
            "chat_format": None,
            "bos": False,
            "notice": None,
        },
        "engine": {"dtype": "bfloat16", "rope_position_dtype": "float32"},
        "data": {"source": "hub", "name": "Hugging Face Hub"},
        "hardware": {},
        "versions": {},
        "git": {"commit": None, "dirty": None},
        "files": {},
        "tasks": tasks or (task(),),
    }
    return RunRecord(**(values | changes))


def section(page: str, title: str) -> str:
    return page.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


DEMO = {"source": "demo", "name": "evals/data/demo"}


def test_row_of_a_complete_run() -> None:
    board = section(render([record()]), "Benchmarks")
    assert "### `adept_arc_easy` (version 1.0, generative, 1-shot)" in board
    (row,) = [line for line in board.splitlines() if "persimmon-demo" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        *("persimmon-demo", "exact_match", "65.0", "58.2 to 71.3", "200", "25.0", "3", "2", "0"),
        *("bfloat16", "float32", "Hugging Face Hub (bbbbbbbb)", "cccccccc", "2026-01-02"),
    ]
    assert "Warning" not in board


def test_demo_world_stands_apart() -> None:
    page = render([record(data=DEMO)])
    assert "persimmon-demo" in section(page, "Demonstration world")
    assert "persimmon-demo" not in section(page, "Benchmarks")
    assert "No complete run" in section(page, "Benchmarks")


@pytest.mark.parametrize("data", [DEMO, {"source": "hub", "name": "Hugging Face Hub"}])
def test_partial_runs_stay_out_of_the_boards(data: dict[str, str]) -> None:
    limited = record(complete=False, limit=10, data=data, tasks=(task(num_scored=10, correct={"exact_match": 9}),))
    page = render([limited])
    assert "persimmon-demo" not in section(page, "Benchmarks") + section(page, "Demonstration world")
    assert "10 of 200" in section(page, "Partial runs")
    assert "## Partial runs" not in render([record()])


def test_latest_of_equal_runs() -> None:
    older = record("older", tasks=(task(correct={"exact_match": 100}),))
    newer = record("newer", started="2026-01-03T00:00:00+00:00")
    other_dtype = record("third", engine={"dtype": "float32", "rope_position_dtype": "float32"})
    page = render([older, other_dtype, newer])
    assert "| 50.0 " not in page
    assert section(page, "Benchmarks").count("| exact_match ") == 2


def test_warnings_and_undefined() -> None:
    constant = task(correct={"exact_match": 50}, common_share=1.0, failed=0, cut_prompts=4)
    page = render([record(tasks=(constant,))])
    assert "- **Warning** `one`: every answer is B; exact_match is at chance; prompts cut to fit: 4." in page
    below = task(correct={"exact_match": 20})
    assert "exact_match is below chance." in render([record(tasks=(below,))])
    nothing = task(num_scored=0, num_available=0, correct={"exact_match": 0}, chance=None, unreadable=None)
    (row,) = [line for line in render([record(tasks=(nothing,))]).splitlines() if "persimmon-demo" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")][2:7] == ["–", "–", "0", "–", "–"]


def test_notice_of_a_model_stands_under_its_rows() -> None:
    model = record().model | {"notice": "A demonstration; it knows nothing."}
    page = render([record("a", model=model), record("b", model=model, engine={**record().engine, "dtype": "float32"})])
    assert page.count("- persimmon-demo: A demonstration; it knows nothing.") == 1


def test_source_of_items() -> None:
    assert "| folder data (bbbbbbbb) " in render([record(data={"source": "folder", "name": "data"})])


def test_same_records_same_bytes(tmp_path: Path) -> None:
    for name, day in (("b", "02"), ("a", "03")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        write_record(record(name, started=f"2026-01-{day}T00:00:00+00:00"), folder)
    (tmp_path / "runs" / "unfinished").mkdir()
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first
    assert first.decode() == render(read_records(tmp_path))
    assert [one.run for one in read_records(tmp_path)] == ["b", "a"]


def test_page_in_the_repository_is_of_the_records_in_it() -> None:
    """A clone holds only the records in git, so this also finds a page that was committed with other runs on it."""
    page = Path(__file__).resolve().parents[2] / "results" / "README.md"
    assert page.read_text(encoding="utf-8") == render(read_records(page.parent)), "run `make results`"


def test_no_records_at_all(tmp_path: Path) -> None:
    assert "No run is recorded." in write_report(tmp_path / "new").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw | {"schema": 0}, "is no run record of schema 1"),
        (lambda raw: raw | {"more": 1}, "lacks or adds a key"),
        (lambda raw: {key: raw[key] for key in raw if key != "git"}, "lacks or adds a key"),
        (lambda raw: [raw], "is no run record of schema 1"),
    ],
)
def test_bad_records_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(change(asdict(record()))), encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        read_record(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_record(path)
