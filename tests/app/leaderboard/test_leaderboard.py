"""The leaderboard: the report's own figures, chosen, marked and linked, and nothing taken as markup."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_runs import DEMO, other_model, scored_run

from app.leaderboard.page import chosen_names
from app.leaderboard.plots import plots_html
from app.leaderboard.published import measured, published_html
from app.leaderboard.report import report_markdown
from app.leaderboard.scores import Choice, Leaderboard, Published, Score, read_leaderboard
from app.leaderboard.scores_csv import scores_csv
from app.leaderboard.view import boards_html
from evals.report import write_report
from model.interface import InvalidRequest


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models over a benchmark's items and one over the demonstration world's."""
    folder = tmp_path_factory.mktemp("results")
    right = [True, False, True, True] * 15
    scored_run(folder, "ours", {"adept_mmlu": right, "adept_winogrande": right})
    scored_run(folder, "theirs", {"adept_mmlu": [True, False] * 30}, model=other_model("Llama-2-7b-hf"))
    scored_run(folder, "demo", {"adept_mmlu": [True, False, False, False] * 15}, data=DEMO)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def leaderboard(results: Path) -> Leaderboard:
    return read_leaderboard(results)


def test_the_projects_own_results_are_read() -> None:
    own = read_leaderboard(Path(__file__).parents[3] / "results")
    with (Path(__file__).parents[3] / "results" / "leaderboard.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(score.run, score.task, score.metric) for score in own.scores] == [
        (row["run"], row["task"], row["metric"]) for row in rows
    ]
    assert own.published


def test_every_score_stands_with_its_interval_and_leads_to_its_items(leaderboard: Leaderboard) -> None:
    page = boards_html(leaderboard.scores, ())
    assert 'href="samples?run=ours&amp;task=adept_mmlu"' in page
    assert ">75.0</a>" in page
    assert "[62.8, 84.2]" in page  # Wilson, 45 of 60
    assert page.count("This is not the benchmark") == 1
    assert "\n" not in page  # a blank line would end the HTML block in Markdown


def test_what_is_suspect_is_marked_and_said(leaderboard: Leaderboard) -> None:
    (demo,) = [score for score in leaderboard.scores if score.is_demo]
    assert demo.warnings == ("exact_match is at chance",)
    page = boards_html([demo], ())
    assert "† 1 warning</summary>" in page
    assert f"MMLU, {demo.label}: exact_match is at chance" in page


@pytest.mark.parametrize(
    ("choice", "number"),
    [
        (Choice(), 4),
        (Choice(models=("Llama-2-7b-hf",)), 1),
        (Choice(columns=("WinoGrande",)), 1),
        (Choice(settings=("raw, engine, bfloat16, rotary float32",)), 4),
        (Choice(models=("Llama-2-7b-hf",), columns=("WinoGrande",)), 0),
    ],
)
def test_filters(leaderboard: Leaderboard, choice: Choice, number: int) -> None:
    assert len(choice.of(leaderboard.scores)) == number


def test_published_figures_stand_beside_what_was_measured(leaderboard: Leaderboard) -> None:
    comparable = Published(
        model="llama-2-7b",
        task="mmlu",
        benchmark="MMLU",
        value=45.3,
        shots=1,
        protocol="1-shot",
        comparable=True,
        source="A <b>paper</b>",
        url="https://example.org/a",
    )
    assert [score.run for score in measured(comparable, leaderboard.scores)] == ["theirs"]
    assert measured(replace(comparable, model="mpt-7b"), leaderboard.scores) == []
    page = published_html([comparable, replace(comparable, model="mpt-7b", url="javascript:x")], leaderboard.scores)
    assert "50.0 (raw, engine, bfloat16, rotary float32, adept)" in page
    assert "not measured" in page
    assert "javascript:" not in page
    assert "<b>" not in page


def test_the_plot_says_its_numbers(leaderboard: Leaderboard) -> None:
    board = [score for score in leaderboard.scores if not score.is_demo]
    page = plots_html(board, [figure for figure in leaderboard.published if figure.comparable])
    assert 'aria-label="75.0 %, n = 60, 95 % interval 62.8 to 84.2"' in page
    assert 'aria-label="41.2 %, published"' in page
    undefined = replace(board[0], score=None, low=None, high=None, n=0)
    assert "<circle" not in plots_html([undefined], ()).partition('<p class="legend">')[0]


def test_names_are_texts(leaderboard: Leaderboard) -> None:
    hostile = replace(leaderboard.scores[0], model="<img src=x>", told='"><script>', warnings=("<i>",), notice="<b>")
    page = boards_html([hostile], ())
    assert not any(tag in page for tag in ("<img", "<script", "<i>", "<b>"))
    (row,) = csv.DictReader(io.StringIO(scores_csv([replace(hostile, model="=1+1")]), newline=""))
    assert row["model"] == "'=1+1"


def test_the_report_leads_to_the_sample_browser(results: Path) -> None:
    text = report_markdown(results)
    assert "](samples?run=ours)" in text
    assert "items.jsonl)" not in text
    assert "leaderboard.csv" in text
    assert not re.search(r"\]\((?!https://|samples\?)", text)


def test_each_table_of_the_report_is_a_region_named_by_its_heading(tmp_path: Path) -> None:
    table = "| a |\n|:--|\n| 1 |"
    (tmp_path / "README.md").write_text(f'# One `"code"`\n\n{table}\n\ntext\n\n{table}\n\n## Two\n\n{table}\n')
    text = report_markdown(tmp_path)
    assert re.findall(r'tabindex="0" role="region" title="([^"]*)"', text) == ["One &quot;code&quot;"] * 2 + ["Two"]
    assert text.count(f">\n\n{table}\n\n</div>\n") == 3  # blank lines, so that it is read as Markdown
    assert [line for line in text.splitlines() if line and "div" not in line][:2] == ['# One `"code"`', "| a |"]


@pytest.mark.parametrize("content", [None, "{", "{}", json.dumps({"schema": 99}), '{"schema": 1, "scores": [{}]}'])
def test_what_cannot_be_read_is_said(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "leaderboard.json").write_text(content)
    with pytest.raises(InvalidRequest, match=r"leaderboard\.json .*make results"):
        read_leaderboard(tmp_path)


def test_scores_have_a_setting(leaderboard: Leaderboard) -> None:
    score: Score = leaderboard.scores[0]
    assert replace(score, backend=None, dtype=None, rotary=None).setting == "raw"


def test_a_filter_holds_all_or_what_was_chosen() -> None:
    assert chosen_names([]) == chosen_names(["all"]) == chosen_names(["a", "all"]) == ()
    assert chosen_names(["all", "a"]) == ("a",)
    assert chosen_names(["a", "b"]) == ("a", "b")
