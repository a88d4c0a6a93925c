"""The results page: from records alone, and nothing where it does not belong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from recorded_runs import DEMO, other_model, run_record, scored_run, task_record

from evals.errors import EvaluationError
from evals.record import ITEMS_NAME, read_record
from evals.reference_figures import load_reference_figures
from evals.report import Sources, read_records, read_sources, render, render_files
from evals.report.rules import TASK_RULES
from evals.suites import ADEPT, LIKELIHOOD

ROOT = Path(__file__).resolve().parents[2]
BOARD = "Adept's comparison: 1-shot, generated text, Hugging Face Hub"


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def subsection(page: str, title: str) -> str:
    return page.split(f"\n### {title}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]


def cells(text: str) -> list[list[str]]:
    """The cells of all tables in a text, header and rows."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def row(text: str, model: str) -> dict[str, str]:
    header, *rows = cells(text)
    (found,) = [each for each in rows if each[0] == model]
    return dict(zip(header, found, strict=True))


def test_board_of_a_complete_run() -> None:
    board = section(render([run_record()]), "Leaderboard")
    assert row(board, "persimmon-8b-base") == {
        "model": "persimmon-8b-base",
        "prompts": "raw",
        "backend": "engine",
        "dtype": "bfloat16",
        "rotary": "float32",
        "weights": "cccccccc",
        "ARC Easy, n = 200": r"65.0 \[58.2, 71.3\]",
    }
    assert "Items, by their SHA-256: ARC Easy bbbbbbbb." in board
    assert "Greedy; one shot per item" in board
    assert "Warning" not in board


def test_every_count_stands_in_the_detail_table() -> None:
    one = run_record(
        "hub--x--1", task_record(num_resumed=3, items_per_s=None, unreadable=None), files={ITEMS_NAME: "0"}
    )
    details = section(render([one]), "Tasks in detail")
    assert "#### adept_arc_easy (version 1.0, generative, 1-shot)" in details
    assert "200 items show a paired difference of" in details
    assert row(details, "persimmon-8b-base") == {
        **{"model": "persimmon-8b-base", "prompts": "raw", "backend": "engine", "dtype": "bfloat16"},
        **{"rotary": "float32", "metric": "exact_match", "score %": "65.0", "95 % interval": "58.2 to 71.3"},
        **{"n": "200", "chance %": "25.0", "unreadable": "–", "truncated": "2", "failed": "0", "items/s": "–"},
        **{"BOS": "no", "weights": "cccccccc", "date": "2026-01-02", "run": "[items](runs/hub--x--1/items.jsonl)"},
    }


def test_programs_say_how_they_ended_and_where_they_ran() -> None:
    task = task_record(
        "adept_humaneval",
        [True] * 4 + [False] * 6,
        correct={"pass@1": 4},
        outcomes={"failed": 5, "passed": 4, "timed out": 1},
        suspicious=1,
    )
    page = render([run_record("one", task, sandbox={"level": "bubblewrap", "sandboxed": True})])
    found = row(section(page, "Tasks in detail"), "persimmon-8b-base")
    assert found["outcomes"] == "failed 5, passed 4, timed out 1"
    assert (found["suspicious"], found["sandbox"]) == ("1", "bubblewrap")
    assert "without a sandbox" not in page
    unheld = render([run_record("one", task, sandbox={"level": "none", "sandboxed": False})])
    assert "its programs ran without a sandbox" in section(unheld, "Leaderboard")


def test_demo_world_stands_apart() -> None:
    tasks = [task_record("adept_arc_easy"), task_record("likelihood_arc_easy", correct={"acc": 150, "acc_norm": 140})]
    page = render([run_record("one", *tasks, data=DEMO, model=other_model("tiny") | {"notice": "It knows *nothing*."})])
    demo = section(page, "Demonstration world")
    assert "**This is not the benchmark**" in demo
    assert row(subsection(demo, BOARD.replace("Hugging Face Hub", "demonstration world (evals/data/demo)")), "tiny")
    likelihood = demo.split("### lm-eval's own forms", 1)[1].split("\n### ", 1)[0]
    assert row(likelihood, "tiny")["ARC Easy acc_norm, n = 200"].startswith("70.0")
    assert demo.count(r"- tiny: It knows \*nothing\*.") == 2  # one a board
    assert "tiny" not in section(page, "Leaderboard")
    assert "No complete run" in section(page, "Leaderboard")


@pytest.mark.parametrize("data", [DEMO, {"source": "folder", "name": "data"}])
def test_partial_runs_stay_out_of_the_boards(data: dict[str, str]) -> None:
    task = task_record(right=[True] * 9 + [False], num_available=200, failed=1)
    limited = run_record("one", task, complete=False, limit=10, data=data)
    files = render_files(Sources(records=(limited,)))
    page = files["README.md"]
    partial = row(section(page, "Partial runs"), "persimmon-8b-base")
    assert (partial["n"], partial["why"]) == ("10 of 200", "limit 10, 1 failed")
    outside = page.replace(section(page, "Partial runs"), "")
    assert "persimmon-8b-base" not in outside
    assert "persimmon-8b-base" not in files["leaderboard.csv"] + files["leaderboard.tex"]
    assert "persimmon-8b-base" not in files["index.html"].split('id="partial-runs"')[0]
    assert "## Partial runs" not in render([run_record()])


def test_published_figures_never_share_a_table_with_measured_ones() -> None:
    page = render([run_record("one", task_record("adept_mmlu"))])
    published = section(page, "Published figures")
    assert "*Not measured here.*" in published
    assert row(subsection(published, "Same protocol as the suite `adept`"), "persimmon-8b-chat")["MMLU"] == "*41.2*"
    assert (
        row(subsection(published, "Same protocol as the suite `adept`"), "llama-2-7b")["MMLU"] == "no published value"
    )
    quoted = [each for each in cells(subsection(published, "All, with their sources")) if each[0] == "llama-2-7b"]
    assert quoted[0][:6] == ["llama-2-7b", "MMLU", "*45.3*", "5", "5-shot, likelihood", "no"]
    assert quoted[0][6].endswith("(https://arxiv.org/abs/2307.09288)")
    rest = page.replace(published, "")
    for figure in load_reference_figures():
        assert figure.value is None or f"*{figure.value:g}*" not in rest
    assert "65.0" not in published


def test_constant_and_random_models_raise_the_warning() -> None:
    constant = run_record("a", task_record(right=[True] * 50 + [False] * 150, common_share=1.0, cut_prompts=4))
    chance = run_record(
        "b", task_record(right=[True] * 52 + [False] * 148, common_answer="C"), model=other_model("random")
    )
    board = section(render([constant, chance]), "Leaderboard")
    assert row(board, "persimmon-8b-base")["ARC Easy, n = 200"] == r"25.0 \[19.5, 31.4\] †"
    assert (
        "- † **Warning** ARC Easy, persimmon-8b-base: every answer is B; exact_match is at chance; "
        "items whose prompt was cut to fit: 4." in board
    )
    assert "- † **Warning** ARC Easy, random: exact_match is at chance." in board
    details = section(render([chance]), "Tasks in detail")
    assert "- † **Warning** random: exact_match is at chance." in details


def test_what_a_model_wrote_is_no_markup() -> None:
    task = task_record(
        right=[True] * 50 + [False] * 150, common_share=1.0, common_answer="**bold** | <script>" + "x" * 300
    )
    page = render([run_record("one", task, model={"name": "a|b <script>alert(1)</script> [x](javascript:1)"})])
    assert r"\*\*bold\*\* \| \<script>" in page
    assert "x" * 200 not in page
    assert "<script>" not in page.replace(r"\<script>", "")
    assert r"a\|b \<script>" in page


def test_undefined_is_a_dash() -> None:
    nothing = task_record(right=[True], num_scored=0, num_available=0, correct={"exact_match": 0}, chance=None)
    page = render([run_record("one", nothing)])
    assert row(section(page, "Leaderboard"), "persimmon-8b-base")["ARC Easy, n = 0"] == "–"
    details = row(section(page, "Tasks in detail"), "persimmon-8b-base")
    assert [details[name] for name in ("score %", "95 % interval", "n", "chance %")] == ["–", "–", "0", "–"]


def test_speed_of_engine_and_hf() -> None:
    ours = run_record("a", task_record(items_per_s=30.0))
    theirs = run_record("b", task_record(items_per_s=12.0), engine={"backend": "hf", "batch_size": 8})
    speed = row(section(render([ours, theirs]), "Speed"), "persimmon-8b-base")
    assert (speed["engine, items/s"], speed["hf, items/s"], speed["engine / hf"]) == ("30.00", "12.00", "2.50")
    assert (speed["n"], speed["hf batch"], speed["on"]) == ("200", "8", "A GPU")


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "another"},
        {"model": {"weights_sha256": "1" * 64}},
        {"complete": False},
        {"engine": {"backend": "endpoint"}},
        {"engine": {"backend": "hf", "rope_position_dtype": "bfloat16"}},
    ],
)
def test_speed_is_of_one_command_and_one_model(changes: dict[str, Any]) -> None:
    theirs = run_record("b", **({"engine": {"backend": "hf"}} | changes))
    assert "\n## Speed" not in render([run_record("a"), theirs])


def test_speed_of_a_resumed_run_is_undefined() -> None:
    theirs = run_record("b", task_record(items_per_s=None, num_resumed=9), engine={"backend": "hf"})
    speed = row(section(render([run_record("a"), theirs]), "Speed"), "persimmon-8b-base")
    assert (speed["hf, items/s"], speed["engine / hf"]) == ("–", "–")


def test_other_measurements_have_their_sections() -> None:
    page = render([], measurements=["## Zeros\n\nHalf of them.\n"])
    assert section(page, "Zeros").strip() == "Half of them."
    assert page.index("## Zeros") < page.index("## Rules")


def test_rules_agree_with_the_task_files() -> None:
    assert set(TASK_RULES) == {*ADEPT, *LIKELIHOOD}
    folder = ROOT / "evals" / "tasks"

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!function", lambda loader, suffix, node: None)
    for task, rule in TASK_RULES.items():
        path, most, shots = folder / f"{task}.yaml", None, None
        while path is not None:
            config = yaml.load(path.read_text(encoding="utf-8"), Loader)
            most = most or config.get("generation_kwargs", {}).get("max_gen_toks")
            shots = config.get("metadata", {}).get("shots") if shots is None else shots
            path = folder / config["include"] if "include" in config else None
        assert rule.startswith(f"{shots}-shot")
        assert most is None or f"at most {most} tokens" in rule
    assert all(str(number) in section(render([]), "Rules") for number in (8, 32, 512, 1024))


def test_a_run_lies_in_the_folder_of_its_name(tmp_path: Path) -> None:
    scored_run(tmp_path, "hub--a--1", {"adept_mmlu": [True, False]})
    (tmp_path / "runs" / "hub--a--1").rename(tmp_path / "runs" / "hub--a--2")
    with pytest.raises(EvaluationError, match=r"hub--a--2/run.json is the record of run 'hub--a--1'"):
        read_records(tmp_path)


def test_pages_in_the_repository_are_of_the_records_in_it() -> None:
    """A clone holds only the records in git, so this also finds pages that were committed with other runs on them."""
    for name, text in render_files(read_sources(ROOT / "results")).items():
        assert (ROOT / "results" / name).read_text(encoding="utf-8") == text, "run `make results`"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw | {"schema": 0}, "is no run record of schema 2"),
        (lambda raw: raw | {"more": 1}, "lacks or adds a key"),
        (lambda raw: {key: raw[key] for key in raw if key != "git"}, "lacks or adds a key"),
        (lambda raw: [raw], "is no run record of schema 2"),
    ],
)
def test_bad_records_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(change(asdict(run_record()))), encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        read_record(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_record(path)
