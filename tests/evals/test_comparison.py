"""Comparing two models item by item, and the tables of it."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.comparison import COLUMNS, DIFFERING_COLUMNS, ItemResult, compare, differing_items
from evals.comparison_table import NOTES, comparison_table, is_significant, render_comparison, render_differing_items
from evals.errors import EvaluationError
from evals.statistics import clustered, detectable_difference, holm, mcnemar_exact, paired_difference, wilson

NOTHING = (
    "score_a",
    "score_a_low",
    "score_b_high",
    "difference",
    "difference_low",
    "p_value",
    "p_adjusted",
    "detectable",
)


def side(outcomes: str, *, task: str = "adept_arc_easy", clusters: str = "", **options: Any) -> list[ItemResult]:
    """Items 0, 1, ...: `+` right, `-` wrong, `x` failed, a space: not there."""
    marks = {"+": True, "-": False, "x": None}
    return [
        ItemResult(
            task, str(place), marks[mark], "ABCD"[place % 4], cluster=clusters[place] if clusters else None, **options
        )
        for place, mark in enumerate(outcomes)
        if mark != " "
    ]


def only_row(compared: pd.DataFrame) -> dict[str, Any]:
    (row,) = compared.to_dict("records")
    return {str(key): value for key, value in row.items()}


def test_row() -> None:
    row = only_row(compare(side("++++----++"), side("++--+---+-")))
    paired = paired_difference([True] * 4 + [False] * 4 + [True] * 2, [c == "+" for c in "++--+---+-"])
    assert (row["task"], row["metric"], row["n"], row["clusters"]) == ("adept_arc_easy", "score", 10, 0)
    assert (row["score_a"], row["score_b"]) == (0.6, 0.4)
    assert (row["score_a_low"], row["score_a_high"]) == (wilson(6, 10).low, wilson(6, 10).high)
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (
        pytest.approx(0.2),
        paired.low,
        paired.high,
    )
    assert (row["only_a"], row["only_b"], row["p_value"]) == (3, 1, mcnemar_exact(3, 1))
    assert row["p_adjusted"] == row["p_value"]
    assert row["detectable"] == detectable_difference(10, 0.4)
    assert row["warning"] == ""


def test_missing_and_failed_items_are_counted_and_left_out() -> None:
    row = only_row(compare(side("+x+ -+x"), side("++ x--x")))
    assert row["n"] == 3  # items 0, 4 and 5
    assert (row["only_a"], row["only_b"]) == (1, 0)
    assert (row["missing_a"], row["missing_b"]) == (1, 1)
    assert (row["failed_a"], row["failed_b"]) == (2, 2)


def test_tasks_and_metrics_stand_apart_and_holm_runs_over_the_table() -> None:
    a = [*side("+" * 9), *side("+" * 9, metric="acc"), *side("++", task="adept_mmlu")]
    b = [*side("-" * 9), *side("+" * 8 + "-", metric="acc"), *side("--", task="adept_triviaqa")]
    compared = compare(a, b)
    assert list(zip(compared["task"], compared["metric"], strict=True)) == [
        ("adept_arc_easy", "score"),
        ("adept_arc_easy", "acc"),
        ("adept_mmlu", "score"),
        ("adept_triviaqa", "score"),
    ]
    expected = holm([mcnemar_exact(9, 0), mcnemar_exact(1, 0), math.nan, math.nan])
    assert list(compared["p_adjusted"]) == pytest.approx(expected, nan_ok=True)
    assert list(compared["missing_a"]) == [0, 0, 0, 2]
    assert list(compared["missing_b"]) == [0, 0, 2, 0]


def test_nothing_in_common_is_undefined() -> None:
    row = only_row(compare(side("++"), side("  --")))
    assert row["n"] == row["only_a"] == 0
    assert all(math.isnan(row[name]) for name in NOTHING)
    empty = compare([], [])
    assert tuple(empty.columns) == COLUMNS
    assert empty.empty


def test_clusters() -> None:
    clusters = "aabbccdd"
    row = only_row(compare(side("++++--+-", clusters=clusters), side("+-+---+-", clusters=clusters)))
    estimate = clustered([0, 1, 0, 1, 0, 0, 0, 0], clusters)
    assert row["clusters"] == 4
    assert (row["difference_low"], row["difference_high"]) == (estimate.low, estimate.high)
    assert row["score_a_low"] == max(0, clustered([1, 1, 1, 1, 0, 0, 1, 0], clusters).low)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (side("++") + side("-"), side("++"), "item '0' of adept_arc_easy stands twice in A: each item has one score"),
        (side("++"), side("++") + side(" -"), "item '1' of adept_arc_easy stands twice in B: each item has one score"),
        (side("++", clusters="ab"), side("++", clusters="aa"), "item '1' of adept_arc_easy is in 'b' in A but in 'a'"),
        (
            side("+", clusters="a") + side(" +"),
            side("+", clusters="a") + side(" +"),
            "1 of 2 items of adept_arc_easy have a cluster: all or none must",
        ),
    ],
)
def test_refuses_items_that_do_not_fit(a: list[ItemResult], b: list[ItemResult], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        compare(a, b)


def test_unreadable_truncated_and_constant_answers() -> None:
    a = [ItemResult("t", str(place), False, "", unreadable=True, truncated=place == 0) for place in range(3)]
    b = [ItemResult("t", str(place), True, "C") for place in range(3)]
    row = only_row(compare(a, [*b, ItemResult("t", "9", True, "", unreadable=True)]))
    assert (row["unreadable_a"], row["unreadable_b"], row["truncated_a"], row["truncated_b"]) == (3, 0, 1, 0)
    assert row["warning"] == "every answer of A is unreadable; every answer of B is C"


def test_differing_items() -> None:
    a, b = side("++-x-+"), side("+--+++")
    found = differing_items(a, b)
    assert tuple(found.columns) == DIFFERING_COLUMNS
    assert found.to_dict("list") == {
        "task": ["adept_arc_easy"] * 2,
        "metric": ["score"] * 2,
        "item_id": ["1", "4"],
        "right": ["A", "B"],
        "answer_a": ["B", "A"],
        "answer_b": ["B", "A"],
    }
    assert tuple(differing_items(a, a).columns) == DIFFERING_COLUMNS


@settings(deadline=None, max_examples=50)
@given(st.text("+-x ", max_size=30), st.text("+-x ", max_size=30))
def test_exchanging_the_sides_mirrors_the_row(a: str, b: str) -> None:
    ours, theirs = compare(side(a), side(b)), compare(side(b), side(a))
    for row, mirrored in zip(ours.to_dict("records"), theirs.to_dict("records"), strict=True):
        for name in ("score", "only", "missing", "failed"):
            assert row[f"{name}_a"] == pytest.approx(mirrored[f"{name}_b"], nan_ok=True)
        assert row["difference"] == pytest.approx(-mirrored["difference"], nan_ok=True)
        assert row["p_value"] == pytest.approx(mirrored["p_value"], nan_ok=True)
        assert row["only_a"] + row["only_b"] == len(differing_items(side(a), side(b)))


def test_bold_is_only_what_is_no_chance() -> None:
    clear, unclear = compare(side("+" * 20), side("-" * 20)), compare(side("+++-"), side("++--"))
    table, bold = comparison_table(clear)
    assert [name for name in bold.columns if bold.loc[0, name]] == ["A %", "A - B, points"]
    assert table.loc[0, "A - B, points"] == "+100.0 (+73.5 to +100.0)"
    assert table.loc[0, "p"] == "<0.001"
    assert not comparison_table(unclear)[1].to_numpy().any()
    assert [
        name for name in bold.columns if comparison_table(compare(side("-" * 20), side("+" * 20)))[1].loc[0, name]
    ] == [
        "B %",
        "A - B, points",
    ]
    assert "**100.0 (83.9 to 100.0)**" in render_comparison(clear, name_a="x", name_b="y")
    assert r"\textbf{100.0 (83.9 to 100.0)}" in render_comparison(clear, name_a="x", name_b="y", form="latex")
    assert "**" not in render_comparison(unclear, name_a="x", name_b="y")


def test_a_careful_interval_holds_bold_back() -> None:
    """All the difference is in two of four subjects: McNemar's p is small, the clustered interval holds 0."""
    clusters = "a" * 10 + "b" * 10 + "c" * 10 + "d" * 10
    row = only_row(compare(side("+" * 19 + "-" * 21, clusters=clusters), side("-" * 40, clusters=clusters)))
    assert row["p_adjusted"] < 0.05
    assert row["difference_low"] < 0
    assert not is_significant(row)


def test_undefined_is_a_dash() -> None:
    table, _ = comparison_table(compare(side("++"), side("  --")))
    row = table.loc[0]
    assert {row[name] for name in ("A %", "B %", "A - B, points", "p", "p adjusted", "detectable, points")} == {"–"}
    assert row["missing A, B"] == "2, 2"


def test_rendered() -> None:
    compared = compare(side("++++----++", clusters="aabbccddee"), side("++--+---+-", clusters="aabbccddee"))
    page = render_comparison(compared, name_a="persimmon_*", name_b="mpt")
    assert page.startswith("A: persimmon\\_\\*. B: mpt.\n\n| task")
    assert "| 10 in 5 clusters |" in page
    assert page.endswith(NOTES)
    header, row = csv.reader(io.StringIO(render_comparison(compared, name_a="a", name_b="b", form="csv")))
    assert tuple(header) == COLUMNS
    assert float(row[COLUMNS.index("difference")]) == compared.loc[0, "difference"]
    with pytest.raises(ValueError, match="markdown, csv or latex"):
        render_comparison(compared, name_a="a", name_b="b", form="html")  # type: ignore[arg-type]


def test_rendered_items() -> None:
    a = [ItemResult("adept_humaneval", "HumanEval/0", True, "    return a | b\n" * 50)]
    b = [ItemResult("adept_humaneval", "HumanEval/0", False, "=1+1")]
    found = differing_items(a, b)
    page = render_differing_items(found)
    assert "| item " in page
    assert "HumanEval/0" in page
    assert "return a \\| b" in page
    assert "…" in page
    assert max(map(len, page.splitlines())) < 300
    full = render_differing_items(found, form="csv")
    assert full.count("return a | b") == 50
    assert '"\'=1+1"' in full
    assert "only right" in render_differing_items(found, form="latex")
    with pytest.raises(ValueError, match="markdown, csv or latex"):
        render_differing_items(found, form="html")  # type: ignore[arg-type]
    assert render_differing_items(differing_items(a, a)).count("\n") == 2
