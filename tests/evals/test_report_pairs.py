"""Rows of a board compared item by item: whom with whom, and what may be bold."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import item_records, other_model, run_record, scored_run, task_record, write_run

from evals.errors import EvaluationError
from evals.item_results import item_results
from evals.record import ITEMS_NAME, RunRecord
from evals.report import read_sources, render_files
from evals.report.boards import make_boards
from evals.report.entries import entries_of, shown
from evals.report.pairs import compare_pairs, pairs_of
from evals.statistics import holm, mcnemar_exact

EVEN = [True, False] * 20
BETTER = [True] * 40  # 20 items more, p < 0.001
SLIGHTLY = [True, True] * 6 + [True, False] * 14  # 6 items more, p = 0.03125


def page(output: Path) -> str:
    return render_files(read_sources(output))["README.md"]


def comparisons(output: Path) -> str:
    return page(output).split("\n## Comparisons\n", 1)[1].split("\n## ", 1)[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def names(*records: RunRecord) -> list[tuple[str, str]]:
    (board,) = make_boards(shown(entries_of(records)))
    return [(f"{a.model} {a.backend}", f"{b.model} {b.backend}") for a, b in pairs_of(board)]


def test_persimmon_is_compared_with_the_others() -> None:
    records = [
        run_record("a"),
        run_record("b", model={"name": "persimmon-8b-chat", "weights_sha256": "1" * 64}),
        run_record("c", model=other_model()),
        run_record("d", model=other_model("mpt-7b", "9")),
    ]
    assert names(*records) == [
        ("persimmon-8b-base engine", "llama-2-7b engine"),
        ("persimmon-8b-base engine", "mpt-7b engine"),
        ("persimmon-8b-chat engine", "llama-2-7b engine"),
        ("persimmon-8b-chat engine", "mpt-7b engine"),
    ]


def test_one_backend_is_compared_with_itself_where_it_can_be() -> None:
    records = [
        run_record("a"),
        run_record("b", engine={"backend": "hf"}),
        run_record("c", model=other_model(), engine={"backend": "hf"}),
        run_record("d", model=other_model("mpt-7b", "9"), engine={"backend": "endpoint"}),
    ]
    assert names(*records) == [
        ("persimmon-8b-base engine", "mpt-7b endpoint"),
        ("persimmon-8b-base hf", "llama-2-7b hf"),
        ("persimmon-8b-base hf", "mpt-7b endpoint"),
    ]


@pytest.mark.parametrize("family", ["persimmon", "llama"])
def test_without_both_every_pair_is_compared(family: str) -> None:
    records = [
        run_record(name, model={"name": f"{family}-{name}", "family": family, "weights_sha256": name * 64})
        for name in "abc"
    ]
    assert len(names(*records)) == 3


def test_an_endpoint_is_known_by_its_name() -> None:
    served = {"family": None, "weights_sha256": None}
    records = [run_record("a", model=served), run_record("b", model=served | {"name": "gpt"})]
    assert names(*records) == [("persimmon-8b-base engine", "gpt engine")]


def test_bold_only_where_the_adjusted_p_is_below_the_level(tmp_path: Path) -> None:
    """p = 0.031 alone would do; over a table of two rows it becomes 0.062."""
    scored_run(tmp_path, "a", {"adept_mmlu": SLIGHTLY})
    scored_run(tmp_path, "b", {"adept_mmlu": EVEN}, model=other_model())
    (alone,) = rows(comparisons(tmp_path))
    assert alone[10:12] == ["0.031", "0.031"]
    assert alone[7].startswith("**+15.0 (")
    assert alone[5].startswith("**65.0 (")
    assert not alone[6].startswith("**")
    scored_run(tmp_path, "c", {"adept_mmlu": SLIGHTLY}, model=other_model("mpt-7b", "9"))
    text = comparisons(tmp_path)
    first, second = rows(text)
    assert first[10:12] == ["0.031", "0.062"]
    assert second[10:12] == ["1.000", "1.000"]
    assert "**" not in text


def test_adjusted_over_pairs_tasks_and_metrics(tmp_path: Path) -> None:
    scored_run(tmp_path, "a", {"adept_mmlu": BETTER, "adept_arc_easy": SLIGHTLY})
    scored_run(tmp_path, "b", {"adept_mmlu": EVEN, "adept_arc_easy": EVEN}, model=other_model())
    scored_run(tmp_path, "c", {"adept_mmlu": EVEN}, model=other_model("mpt-7b", "9"))
    sources = read_sources(tmp_path)
    (board,) = make_boards(shown(entries_of(sources.records)))
    compared = compare_pairs(board, sources.items)
    assert [(str(row.b), row.task) for row in compared.itertuples()] == [
        ("llama-2-7b", "adept_mmlu"),
        ("llama-2-7b", "adept_arc_easy"),
        ("mpt-7b", "adept_mmlu"),
    ]
    expected = holm([mcnemar_exact(20, 0), mcnemar_exact(6, 0), mcnemar_exact(20, 0)])
    assert list(compared["p_adjusted"]) == pytest.approx(expected)
    assert all(math.isfinite(value) for value in compared["detectable"])


def test_demo_world_is_compared_in_its_own_section(tmp_path: Path) -> None:
    demo = {"source": "demo", "name": "evals/data/demo"}
    scored_run(tmp_path, "a", {"adept_mmlu": BETTER}, data=demo)
    scored_run(tmp_path, "b", {"adept_mmlu": EVEN}, data=demo, model=other_model())
    text = page(tmp_path)
    assert "## Comparisons\n" not in text
    assert "### Item by item: " in text.split("\n## Demonstration world\n")[1]


def test_no_items_at_hand(tmp_path: Path) -> None:
    write_run(tmp_path, run_record("a"))
    write_run(tmp_path, run_record("b", model=other_model()))
    assert "are at hand" in comparisons(tmp_path)


def test_items_that_are_not_the_records_are_refused(tmp_path: Path) -> None:
    scored_run(tmp_path, "a", {"adept_mmlu": BETTER})
    scored_run(tmp_path, "b", {"adept_mmlu": EVEN}, model=other_model())
    path = tmp_path / "runs" / "a" / ITEMS_NAME
    path.write_text(path.read_text(encoding="utf-8").replace('"C"', '"D"', 1) + "\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"a/items\.jsonl was changed after it was recorded"):
        page(tmp_path)


def test_item_results(tmp_path: Path) -> None:
    task = task_record("likelihood_arc_easy", [True, False], correct={"acc": 1, "acc_norm": 2})
    items: list[Any] = [
        item for metric in ("acc",) for item in item_records("likelihood_arc_easy", [True, False], metric=metric)
    ]
    write_run(tmp_path, run_record("a", task), items)
    with pytest.raises(EvaluationError, match=re.escape("a/items.jsonl has no acc_norm for item 'item-0'")):
        item_results(tmp_path / "runs" / "a")
    assert item_results(tmp_path / "runs" / "a", tasks=()) == []
    scored_run(tmp_path, "b", {"adept_mmlu": [True, False], "adept_arc_easy": [True]})
    found = item_results(tmp_path / "runs" / "b", tasks={"adept_mmlu"})
    assert [(result.item_id, result.correct, result.metric) for result in found] == [
        ("item-0", True, "exact_match"),
        ("item-1", False, "exact_match"),
    ]
