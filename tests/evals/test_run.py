"""A whole evaluation on a scripted engine: lm-eval's files, the record, and that what is not written is an error."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
from scripted_engine import ScriptedEngine

from evals.engine_lm import IN_FLIGHT_FACTOR
from evals.errors import DataError, EvaluationError
from evals.item_record import read_items
from evals.models import engine_model
from evals.provenance import ROOT, public_path
from evals.record import ITEMS_NAME, RunRecord, TaskRecord, read_record
from evals.run import data_source, evaluate
from evals.scores import task_warnings
from model.interface import Completion, InvalidRequest

Open = Callable[..., ScriptedEngine]


@pytest.fixture(autouse=True)
def no_environment_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval asks pip and the system for two seconds; what it finds plays no part here."""
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)


def task_of(record: RunRecord, name: str) -> TaskRecord:
    return next(task for task in record.tasks if task.task == name)


def run(engine: ScriptedEngine, items: Path, output: Path, **options: Any) -> tuple[RunRecord, Path]:
    options = {"tasks": ("adept_arc_easy", "likelihood_arc_easy")} | options
    return evaluate(engine_model(engine), data=str(items), output=output, progress=False, **options)


def test_files_and_record(scripted: Open, items: Path, tmp_path: Path) -> None:
    engine = scripted(lambda prompt: "\n B\nQuestion: more", model_name="a/model", context_length=4096)
    record, folder = run(engine, items, tmp_path / "results", seed=3)
    assert re.fullmatch(r"folder--a-model--\d{8}T\d{6}Z", folder.name)
    assert folder.parent == tmp_path / "results" / "runs"
    assert read_record(folder / "run.json") == record
    assert {path.name for path in folder.iterdir()} == {*record.files, "run.json"}
    for name, sha256 in record.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    assert record.complete
    assert (record.limit, record.seed, record.data) == (None, 3, {"source": "folder", "name": "items"})
    assert record.engine["rope_position_dtype"] == "float32"
    assert set(record.git) == {"commit", "dirty"}

    adept = task_of(record, "adept_arc_easy")
    assert (adept.num_scored, adept.num_available, adept.shots, adept.form) == (12, 12, 1, "generative")
    assert adept.correct == {"exact_match": 3}
    assert (adept.unreadable, adept.truncated, adept.failed, adept.cut_prompts) == (0, 0, 0, 0)
    assert (adept.common_answer, adept.common_share, adept.chance) == ("B", 1.0, 0.25)
    assert adept.generation == {"until": [], "do_sample": False, "max_gen_toks": 8}
    likelihood = task_of(record, "likelihood_arc_easy")
    assert (likelihood.form, likelihood.shots) == ("likelihood", 0)
    assert (likelihood.unreadable, likelihood.truncated, likelihood.generation) == (None, None, None)
    assert adept.items_sha256 == likelihood.items_sha256
    assert adept.prompts_sha256 != likelihood.prompts_sha256

    (samples,) = folder.glob("samples_adept_arc_easy_*.jsonl")
    first = json.loads(samples.read_text(encoding="utf-8").splitlines()[0])
    assert (first["answer"], first["exact_match"], first["filter"]) == ("B", 0.0, "first-line")
    assert first["filtered_resps"] == ["\n B"]


def test_the_machine_is_not_named(scripted: Open, items: Path, tmp_path: Path) -> None:
    _, folder = run(scripted(), items, tmp_path)
    for path in folder.glob("*.json"):
        assert str(ROOT) not in path.read_text(encoding="utf-8"), path.name


def test_likelihood_counts(scripted: Open, items: Path, tmp_path: Path) -> None:
    """An engine that knows the answers: the right choice is the text whose place the key names."""
    rows = [json.loads(line) for line in (items / "arc_easy.jsonl").read_text(encoding="utf-8").splitlines()]
    answers = {row["question"]: row["choices"]["text"]["ABCD".index(row["answerKey"])] for row in rows}

    def answer(prompt: str) -> str:
        found = re.fullmatch(r"Question: (.*)\nAnswer:", prompt)
        return f" {answers[found[1]]}" if found else " none"

    record, _ = run(scripted(answer), items, tmp_path, tasks=["likelihood_arc_easy"])
    (task,) = record.tasks
    assert task.correct == {"acc": 12, "acc_norm": 12}
    assert task.common_share == 0.25
    assert task_warnings(task) == []


def test_unreadable_and_truncated(scripted: Open, items: Path, tmp_path: Path) -> None:
    for text, unreadable, truncated in (
        ("I do not know this", 12, 12),
        (" no\n and no", 12, 0),
        (" no", 12, 0),
        (" C and then on", 0, 12),
        (" " * 20, 12, 12),
    ):
        record, _ = run(
            scripted(lambda prompt, text=text: text, model_name=f"m{len(text)}"),
            items,
            tmp_path / str(len(text)),
            tasks=["adept_arc_easy"],
        )
        assert (record.tasks[0].unreadable, record.tasks[0].truncated) == (unreadable, truncated), text


def test_prompts_do_not_depend_on_the_limit(scripted: Open, items: Path, tmp_path: Path) -> None:
    engine = scripted()
    run(engine, items, tmp_path / "all", tasks=["adept_arc_easy"])
    everything = {prompt for prompt, _ in engine.requests}
    engine.requests.clear()
    record, _ = run(engine, items, tmp_path / "some", tasks=["adept_arc_easy"], limit=5)
    assert {prompt for prompt, _ in engine.requests} < everything
    assert len(engine.requests) == 5
    assert not record.complete
    assert (record.limit, record.tasks[0].num_scored, record.tasks[0].num_available) == (5, 5, 12)


def test_same_run_same_hashes(scripted: Open, items: Path, tmp_path: Path) -> None:
    def hashes(name: str, **options: Any) -> list[tuple[str, str]]:
        record, _ = run(scripted(), items, tmp_path / name, **options)
        return [(task.prompts_sha256, task.items_sha256) for task in record.tasks]

    assert hashes("one") == hashes("two")
    other = hashes("three", seed=1)
    assert other[0][0] != hashes("four")[0][0]  # another shot, another prompt
    assert other[1] == hashes("five")[1]


def test_constant_model_and_chance_are_warned_about(scripted: Open, items: Path, tmp_path: Path) -> None:
    record, _ = run(scripted(lambda prompt: " B"), items, tmp_path, tasks=["adept_arc_easy"])
    assert task_warnings(record.tasks[0]) == ["every answer is B", "exact_match is at chance"]


def test_constant_scores_are_warned_about(
    scripted: Open, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an endpoint without log-probabilities gives: all the same, so the first choice always wins."""
    engine = scripted()
    one = engine.ascore

    async def score(requests: Sequence[Any]) -> list[Any]:
        return (await one(requests[:1])) * len(requests)

    monkeypatch.setattr(engine, "ascore", score)
    record, _ = run(engine, items, tmp_path, tasks=["likelihood_arc_easy"])
    assert "every answer is A" in task_warnings(record.tasks[0])


def test_failed_requests_make_a_run_incomplete(
    scripted: Open, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = scripted(lambda prompt: " B")
    generate = engine.agenerate

    async def abort_one(prompts: Sequence[Any], *arguments: Any, **options: Any) -> list[Completion]:
        (completion,) = await generate(prompts, *arguments, **options)
        if b"lamp is number 7?\nA" in bytes(prompts[0]):
            return [replace(completion, finish_reason="abort", text="")]
        return [completion]

    monkeypatch.setattr(engine, "agenerate", abort_one)
    record, folder = run(engine, items, tmp_path, tasks=["adept_arc_easy"])
    (task,) = record.tasks
    assert (task.failed, task.num_scored, task.num_available) == (1, 11, 12)
    assert task.correct == {"exact_match": 3}  # the failed one is neither right nor wrong
    assert not record.complete
    assert "items that failed: 1" in task_warnings(task)
    failed = [item for item in read_items(folder / ITEMS_NAME) if item.failed]
    assert [(item.item_id, item.error, item.scores) for item in failed] == [("item-7", "the request was aborted", {})]

    asked = len(engine.requests)
    monkeypatch.setattr(engine, "agenerate", generate)
    time.sleep(1)  # folders are named by the second
    record, _ = run(engine, items, tmp_path, tasks=["adept_arc_easy"])
    assert len(engine.requests) == asked + 1
    assert record.complete
    assert record.tasks[0].num_resumed == 11
    assert (record.tasks[0].items_per_s, record.tasks[0].num_scored) == (None, 12)
    assert not list((tmp_path / "unfinished").iterdir())


def test_items(scripted: Open, items: Path, tmp_path: Path) -> None:
    record, folder = run(scripted(lambda prompt: " B and more"), items, tmp_path)
    found = list(read_items(folder / ITEMS_NAME))
    assert [item.task for item in found] == ["adept_arc_easy"] * 12 + ["likelihood_arc_easy"] * 12
    first = found[1]
    assert (first.item_id, first.output, first.answer, first.gold) == ("item-1", " B and m", "B", "B")
    assert first.prompt.endswith("D: lamp 1-3\nAnswer:")
    assert first.scores == {"exact_match": 1.0}
    scored = found[13]
    assert scored.prompt == "Question: Which lamp is number 1?\nAnswer: lamp 1-1"
    assert scored.output.count("\n") == 3
    assert set(scored.scores) == {"acc", "acc_norm"}
    for task in record.tasks:
        for metric, correct in task.correct.items():
            assert sum(item.scores[metric] for item in found if item.task == task.task) == correct


def test_a_stopped_run_goes_on(scripted: Open, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = run(scripted(), items, tmp_path / "whole", tasks=["adept_arc_easy"])
    engine = scripted(max_num_requests=1)
    generate = engine.agenerate

    async def die(*arguments: Any, **options: Any) -> Any:
        if len(engine.requests) == 5:
            raise KeyboardInterrupt
        return await generate(*arguments, **options)

    monkeypatch.setattr(engine, "agenerate", die)
    with pytest.raises(KeyboardInterrupt):
        run(engine, items, tmp_path / "cut", tasks=["adept_arc_easy"])
    assert not (tmp_path / "cut" / "runs").exists()
    monkeypatch.setattr(engine, "agenerate", generate)
    record, resumed = run(engine, items, tmp_path / "cut", tasks=["adept_arc_easy"])
    assert len(engine.requests) <= 12 + 2 * IN_FLIGHT_FACTOR
    assert record.tasks[0].num_resumed >= 5 - IN_FLIGHT_FACTOR
    assert record.tasks[0].correct == whole.tasks[0].correct
    assert (resumed / ITEMS_NAME).read_bytes() == (folder / ITEMS_NAME).read_bytes()


def test_fresh_asks_everything(scripted: Open, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted()
    run_it = {"tasks": ["adept_arc_easy"], "limit": 4}
    with monkeypatch.context() as patched:
        patched.setattr("evals.run.write_record", lambda record, folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(engine, items, tmp_path, **run_it)
    time.sleep(1)
    asked = len(engine.requests)
    run(engine, items, tmp_path, **run_it, fresh=True)
    assert len(engine.requests) == 2 * asked


def test_chat_format(scripted: Open, items: Path, tmp_path: Path) -> None:
    engine = scripted()
    record, folder = run(engine, items, tmp_path, tasks=["adept_arc_easy"], chat=True, limit=2)
    assert record.model["chat_format"] == "persimmon"
    assert "scripted-engine-chat-format--" in folder.name
    assert all(prompt.startswith("human: You are a bot") for prompt, _ in engine.requests)
    assert all(prompt.endswith("Answer:\n\nadept:") for prompt, _ in engine.requests)
    raw, _ = run(engine, items, tmp_path, tasks=["adept_arc_easy"], limit=2)
    assert raw.model["chat_format"] is None
    assert raw.tasks[0].prompts_sha256 != record.tasks[0].prompts_sha256


def test_errors_leave_no_run_behind(scripted: Open, items: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    with pytest.raises(
        EvaluationError, match="task 'mmlu' is not known: choose from adept_arc_challenge, adept_arc_easy, "
    ):
        run(scripted(), items, output, tasks=["mmlu"])
    with pytest.raises(DataError, match="must be 'hub', 'demo' or an existing folder"):
        run(scripted(), tmp_path / "nowhere", output)
    assert not output.exists()
    with pytest.raises(EvaluationError, match="all 12 requests of adept_arc_easy failed, the last because it broke"):
        run(scripted(failure=lambda prompt: InvalidRequest("it broke")), items, output)
    assert not (output / "runs").exists()


def test_output_that_cannot_be_written(scripted: Open, items: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(EvaluationError, match="cannot be written \\(Not a directory\\): choose another --output"):
        run(scripted(), items, tmp_path / "file", limit=1)


@pytest.mark.parametrize("method", ["save_results_aggregated", "save_results_samples"])
def test_a_file_that_was_not_written_is_an_error(
    scripted: Open, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    from lm_eval.loggers import EvaluationTracker

    kept = getattr(EvaluationTracker, method)

    def swallow(self: Any, *arguments: Any, **options: Any) -> None:
        """As lm-eval does on a full disk: it logs a warning and goes on."""
        if method == "save_results_samples":
            kept(self, task_name=options["task_name"], samples=options["samples"][:-1])

    monkeypatch.setattr(EvaluationTracker, method, swallow)
    with pytest.raises(EvaluationError, match=r"could not write|does not hold the 12 items"):
        run(scripted(), items, tmp_path)
    assert not list(tmp_path.glob("runs/*/run.json"))


def test_names_of_sources() -> None:
    assert data_source("hub") == {"source": "hub", "name": "Hugging Face Hub"}
    assert data_source("demo") == {"source": "demo", "name": "evals/data/demo"}
    assert data_source(str(ROOT / "evals" / "data" / "demo"))["source"] == "demo"
    assert public_path("adept/persimmon-8b-chat") == "adept/persimmon-8b-chat"
    assert public_path(str(ROOT / "evals")) == "evals"
    assert "/" not in public_path(str(ROOT.parent))


@pytest.mark.parametrize(
    "name", ["folder--persimmon-demo--x", "hub--persimmon-8b-chat--x", "demo--persimmon-8b-chat--x"]
)
def test_runs_over_others_items_stay_out_of_git(name: str) -> None:
    """Samples hold the items, and the project ships none of a benchmark's."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository here")
    path = f"results/runs/{name}/run.json"
    assert subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0
