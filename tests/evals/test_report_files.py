"""The files of a report: the same bytes each time, read back, and safe in other programs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_runs import DEMO, other_model, run_record, scored_run, task_record

from evals.errors import EvaluationError
from evals.report import Sources, read_sources, render_files, write_report
from evals.report.table_files import scores_table
from evals.statistics import wilson

NAMES = ["README.md", "index.html", "leaderboard.csv", "leaderboard.tex", "leaderboard.json"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two models, one benchmark and the demonstration world."""
    for data in ({"source": "hub", "name": "Hugging Face Hub"}, DEMO):
        for name, model, right in (("b", {}, [True, False, True] * 10), ("a", other_model(), [True, False] * 15)):
            scored_run(
                tmp_path,
                f"{data['source']}--{name}",
                {"adept_mmlu": right, "likelihood_mmlu": right},
                model=model,
                data=data,
                started=f"2026-01-0{3 if name == 'a' else 2}T00:00:00+00:00",
            )
    return tmp_path


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_same_records_same_bytes(output: Path) -> None:
    (output / "runs" / "unfinished").mkdir()
    paths = write_report(output)
    assert [path.name for path in paths] == NAMES
    first = {path.name: path.read_bytes() for path in paths}
    assert {path.name: path.read_bytes() for path in write_report(output)} == first
    assert {name: text.encode() for name, text in render_files(read_sources(output)).items()} == first


def test_the_order_of_records_does_not_matter(output: Path) -> None:
    sources = read_sources(output)
    turned = replace(sources, records=sources.records[::-1])
    assert render_files(turned) == render_files(sources)


def test_no_records_at_all(tmp_path: Path) -> None:
    paths = write_report(tmp_path / "new")
    assert "No complete run over a benchmark's own items is recorded." in paths[0].read_text(encoding="utf-8")
    assert paths[3].read_text(encoding="utf-8").endswith("% No complete run is recorded.\n")


def test_what_does_not_read_back_is_an_error(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: 0)
    for name in NAMES:
        (output / name).write_text("something else", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"README\.md does not read back as it was written"):
        write_report(output)


def test_what_cannot_be_written_is_an_error(output: Path) -> None:
    (output / "index.html").mkdir()
    with pytest.raises(EvaluationError, match=r"index\.html cannot be written \(Is a directory\)"):
        write_report(output)


def test_csv_has_a_row_for_each_score(output: Path) -> None:
    rows = csv_rows((write_report(output)[2]).read_text(encoding="utf-8"))
    assert len(rows) == 8
    (row,) = [
        each for each in rows if (each["run"], each["task"], each["metric"]) == ("hub--b", "adept_mmlu", "exact_match")
    ]
    assert (row["model"], row["n"], row["correct"], row["score"]) == ("persimmon-8b-base", "30", "20", "0.666667")
    assert (row["low"], row["high"]) == (str(round(wilson(20, 30).low, 6)), str(round(wilson(20, 30).high, 6)))
    assert (row["bos"], row["chat_format"], row["suspicious"], row["sandbox"]) == ("False", "", "", "")
    assert row["generation"] == '{"do_sample": false, "max_gen_toks": 8, "until": []}'
    assert row["version_lm_eval"] == "0.4.13"
    assert {each["data_source"] for each in rows} == {"hub", "demo"}


def test_csv_leaves_undefined_fields_empty() -> None:
    nothing = task_record(right=[True], num_scored=0, num_available=0, correct={"exact_match": 0}, chance=None)
    sources = Sources(records=(run_record("one", nothing),))
    (row,) = csv_rows(render_files(sources)["leaderboard.csv"])
    assert [row[name] for name in ("score", "low", "high", "chance", "n")] == ["", "", "", "", "0"]


def test_csv_runs_no_formula() -> None:
    task = task_record(common_answer="@SUM(A1)", right=[True] * 50 + [False] * 150, common_share=1.0)
    sources = Sources(records=(run_record("one", task, model={"name": "=cmd|' /C calc'!A0"}),))
    text = render_files(sources)["leaderboard.csv"]
    assert "\"'=cmd|' /C calc'!A0\"" in text
    assert '"\'@SUM(A1)"' in text


def test_latex_takes_no_command_from_a_name() -> None:
    name = r"\input{/etc/passwd} 50% of $x_1$ & #2"
    sources = Sources(records=(run_record("one", model={"name": name}),))
    text = render_files(sources)["leaderboard.tex"]
    assert r"\textbackslash{}input\{/etc/passwd\} 50\% of \$x\_1\$ \& \#2 & raw & engine" in text
    assert r"\input" not in text


def test_latex_says_what_is_not_the_benchmark(output: Path) -> None:
    text = write_report(output)[3].read_text(encoding="utf-8")
    assert text.count(r"\begin{tabular}") == 4
    assert text.count("Items of the demonstration world, not the benchmark.") == 2
    assert r"n = 30 \\" in text


def test_table_without_boards() -> None:
    assert scores_table([]).empty


def test_the_apps_file_has_every_score_and_every_published_figure(output: Path) -> None:
    sources = read_sources(output)
    content = json.loads(render_files(sources)["leaderboard.json"])
    rows = csv_rows(render_files(sources)["leaderboard.csv"])
    assert [(one["run"], one["task"], one["metric"], one["n"]) for one in content["scores"]] == [
        (row["run"], row["task"], row["metric"], int(row["n"])) for row in rows
    ]
    assert [one["score"] for one in content["scores"]] == [float(row["score"]) for row in rows]
    assert {one["is_demo"] for one in content["scores"]} == {True, False}
    assert len(content["published"]) == sum(figure.value is not None for figure in sources.figures) > 0
    assert all(one["source"] for one in content["published"])
