"""Which runs share a board, which takes another's place, and what rows are called."""

from __future__ import annotations

from typing import Any

import pytest
from recorded_runs import DEMO, other_model, run_record, task_record

from evals.record import RunRecord
from evals.report import render
from evals.report.boards import Board, make_boards
from evals.report.entries import entries_of, shown
from evals.report.labels import row_labels
from evals.report.leaderboard import board_title, matrix


def boards(*records: RunRecord) -> list[Board]:
    return make_boards(shown(entries_of(records)))


def labels(*records: RunRecord) -> list[str]:
    (board,) = boards(*records)
    return [str(label) for label in row_labels(board.rows).values()]


def test_tasks_stand_in_the_suites_order_and_rows_by_name() -> None:
    tasks = [task_record(name) for name in ("adept_humaneval", "adept_arc_easy", "adept_mmlu")]
    (board,) = boards(run_record("a", *tasks), run_record("b", *tasks, model=other_model()))
    assert list(board.columns) == ["adept_mmlu", "adept_arc_easy", "adept_humaneval"]
    assert [row.model for row in board.rows] == ["llama-2-7b", "persimmon-8b-base"]


def test_the_latest_of_equal_runs_is_shown() -> None:
    older = run_record("older", task_record(correct={"exact_match": 100}))
    newer = run_record("newer", started="2026-01-03T00:00:00+00:00")
    partial = run_record("latest", started="2026-01-04T00:00:00+00:00", complete=False)
    for records in ((older, newer, partial), (partial, newer, older)):
        (board,) = boards(*records)
        assert [entry.run.run for entry in board.entries] == ["newer"]


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": {"dtype": "float32"}},
        {"engine": {"rope_position_dtype": "bfloat16"}},
        {"engine": {"backend": "hf"}},
        {"model": {"chat_format": "adept"}},
        {"model": {"weights_sha256": "1" * 64}},
        {"model": {"tokenizer_sha256": "1" * 64}},
        {"model": {"bos": True}},
    ],
)
def test_another_setting_is_another_row(changes: dict[str, Any]) -> None:
    (board,) = boards(run_record("a"), run_record("b", **changes))
    assert len(board.rows) == 2
    names = labels(run_record("a"), run_record("b", **changes))
    assert len(set(names)) == 2


def test_two_endpoints_of_one_name_are_two_rows() -> None:
    served = {"backend": "endpoint", "dtype": None, "rope_position_dtype": None}
    unknown = {"weights_sha256": None, "tokenizer_sha256": None, "bos": None}
    sides = [
        run_record(name, model=unknown | {"source": f"http://127.0.0.1:{port}/v1"}, engine=served)
        for name, port in (("a", 8000), ("b", 8001))
    ]
    assert labels(*sides) == [f"persimmon-8b-base (http://127.0.0.1:{port}/v1)" for port in (8000, 8001)]
    assert "endpoint" in matrix(boards(*sides)[0]).frame.columns


def test_names_say_only_what_tells_rows_apart() -> None:
    one, other = run_record("a"), run_record("b", model=other_model())
    assert labels(one, other) == ["llama-2-7b", "persimmon-8b-base"]
    chat = run_record("c", model={"chat_format": "adept"})
    assert labels(one, other, chat) == [
        "llama-2-7b",
        "persimmon-8b-base (raw prompt)",
        "persimmon-8b-base (chat format adept)",
    ]
    only_chat = run_record("d", model=other_model("mpt-7b", "9") | {"chat_format": "dolly"})
    assert labels(one, other, only_chat)[1] == "mpt-7b (chat format dolly)"


def test_other_items_never_share_a_board() -> None:
    old = run_record("a", task_record(items_sha256="1" * 64))
    new = run_record("b", task_record(items_sha256="2" * 64), model=other_model(), started="2026-01-03T00:00:00+00:00")
    first, second = boards(old, new)
    assert [row.model for row in first.rows] == ["llama-2-7b"]  # the newer items come first
    assert [row.model for row in second.rows] == ["persimmon-8b-base"]
    assert board_title(second) == f"{board_title(first)}, older items 1"
    page = render([old, new])
    assert page.count("Items, by their SHA-256: ARC Easy 11111111.") == 1
    assert page.count("Items, by their SHA-256: ARC Easy 22222222.") == 1


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({"data": {"source": "folder", "name": "data"}}, {}),
        ({"data": DEMO}, {}),
        ({"seed": 1}, {"prompts_sha256": "1" * 64}),
        ({}, {"version": "2.0"}),
    ],
)
def test_another_source_seed_or_version_is_another_board(changes: dict[str, Any], task: dict[str, Any]) -> None:
    found = boards(run_record("a"), run_record("b", task_record(**task), model=other_model(), **changes))
    assert [len(board.rows) for board in found] == [1, 1]
    assert len({board_title(board) for board in found}) == 2


def test_a_seed_decides_nothing_without_shots() -> None:
    (board,) = boards(
        run_record("a", task_record("likelihood_mmlu")),
        run_record("b", task_record("likelihood_mmlu"), model=other_model(), seed=5),
    )
    assert len(board.rows) == 2


def test_equal_rows_with_other_prompts_do_not_share_a_board() -> None:
    """Such as after a change of the prompts without another version."""
    found = boards(run_record("a"), run_record("b", task_record(prompts_sha256="1" * 64)))
    assert [[entry.run.run for entry in board.entries] for board in found] == [["b"], ["a"]]


def test_runs_of_single_tasks_fill_one_row() -> None:
    (board,) = boards(run_record("a", task_record("adept_mmlu")), run_record("b", task_record("adept_arc_easy")))
    (row,) = board.rows.values()
    assert {task: entry.run.run for task, entry in row.items()} == {"adept_mmlu": "a", "adept_arc_easy": "b"}


def test_suites_have_boards_of_their_own() -> None:
    tasks = [task_record(name) for name in ("likelihood_mmlu", "adept_mmlu", "mine_mmlu", "mine_other")]
    found = boards(run_record("a", *tasks))
    assert [board.suite for board in found] == ["adept", "likelihood", "other"]
    assert list(matrix(found[2]).frame.columns)[-2:] == ["mine_mmlu, n = 200", "mine_other, n = 200"]
