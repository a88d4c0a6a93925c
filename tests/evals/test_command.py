"""The command line: what it picks by default, what it prints, and its exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
from scripted_engine import ScriptedEngine

from evals import __main__ as command
from evals import command_report
from evals.errors import EvaluationError
from evals.model_names import BUNDLED_FOLDER
from evals.models import engine_model
from evals.record import read_record
from evals.run import evaluate
from evals.suites import SUITES
from model.interface import EngineError

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., ScriptedEngine]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, scripted: Open) -> list[tuple[str, dict[str, Any]]]:
    """Replaces `model.open_engine` by scripted engines; gives what it was called with."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def open_engine(checkpoint: str, **options: Any) -> ScriptedEngine:
        if checkpoint == "broken":
            raise EngineError("broken has no config.json: give a checkpoint's folder")
        calls.append((checkpoint, options))
        return scripted(lambda prompt: " B\n", model_name=Path(checkpoint).name)

    module = types.ModuleType("model.open_engine")
    module.open_engine = open_engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "model.open_engine", module)
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)
    return calls


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages have tests of their own."""
    monkeypatch.setattr(command_report, "run", lambda options: 0)


TASKS = ["--tasks", "adept_arc_easy,likelihood_arc_easy"]


def test_run_then_report(opened: list[Any], items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "results")]
    arguments = ["run", "--models", "persimmon-demo", "--data", str(items), "--device", "cpu", "--dtype", "float32"]
    assert command.main([*arguments, *TASKS, *output]) == 0
    printed = capsys.readouterr().out
    assert "  adept_arc_easy exact_match: 25.0% of 12 (95 % interval 8.9% to 53.2%)" in printed
    assert "  adept_arc_easy: warning: every answer is B" in printed
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert str(folder) in printed
    assert folder.name.startswith("folder--persimmon-demo--")
    ((checkpoint, options),) = opened
    assert Path(checkpoint) == BUNDLED_FOLDER / "persimmon-demo"
    assert options == {
        "revision": None,
        "device": "cpu",
        "dtype": "float32",
        "rope_position_dtype": "float32",
        "context_length": None,
        "graphs": True,
        "attention_backend": "auto",
        "kernels": "auto",
        "deterministic": False,
        "gpu_memory_utilization": 0.9,
    }
    page = tmp_path / "results" / "README.md"
    written = page.read_text(encoding="utf-8")
    assert "25.0" in written
    page.unlink()
    assert command.main(["report", *output]) == 0
    assert page.read_text(encoding="utf-8") == written


@pytest.mark.usefixtures("reported")
def test_how_a_gpu_computes_can_be_chosen(opened: list[Any], items: Path, tmp_path: Path) -> None:
    arguments = ["run", "--models", "some/a", "--data", str(items), *TASKS, "--output", str(tmp_path)]
    how = ["--no-graphs", "--attention-backend", "sdpa/triton", "--kernels", "reference", "--deterministic"]
    assert command.main([*arguments, *how]) == 0
    ((_, options),) = opened
    wanted = {"graphs": False, "attention_backend": "sdpa/triton", "kernels": "reference", "deterministic": True}
    assert {name: options[name] for name in wanted} == wanted


@pytest.mark.usefixtures("reported")
def test_several_models_one_after_the_other(
    opened: list[Any], items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that cannot be opened does not keep the others from being evaluated."""
    arguments = ["run", "--models", "broken,some/a,some/b", "--data", str(items), "--chat-format", "both"]
    assert command.main([*arguments, *TASKS, "--output", str(tmp_path)]) == 1
    assert [checkpoint for checkpoint, _ in opened] == ["some/a", "some/b"]
    assert "evals: broken: broken has no config.json: give a checkpoint's folder\n" in capsys.readouterr().err
    records = [read_record(path) for path in sorted(tmp_path.glob("runs/*/run.json"))]
    assert [(record.model["name"], record.model["chat_format"]) for record in records] == [
        ("a", None),
        ("a", "persimmon"),
        ("b", None),
        ("b", "persimmon"),
    ]
    assert len({record.command for record in records}) == 1


@pytest.mark.parametrize(
    ("models", "source", "tasks"),
    [
        (None, "demo", SUITES["demo"]),
        ("persimmon-demo", "demo", SUITES["demo"]),
        ("hf:persimmon-demo", "demo", SUITES["demo"]),
        ("model/demo/persimmon-demo,some/model", "hub", SUITES["adept"]),
    ],
)
def test_defaults(monkeypatch: pytest.MonkeyPatch, models: str | None, source: str, tasks: tuple[str, ...]) -> None:
    """The bundled world for the bundled checkpoints, Adept's comparison over the Hub for others."""
    import evals.run

    asked: list[tuple[str, tuple[str, ...]]] = []

    def load_tasks(names: tuple[str, ...], *, data: str, seed: int) -> Any:
        asked.append((data, names))
        raise EvaluationError("enough")

    monkeypatch.setattr(evals.run, "load_tasks", load_tasks)
    assert command.main(["run", *(["--models", models] if models else [])]) == 1
    assert asked == [(source, tasks)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "broken"], "evals: broken: broken has no config.json: give a checkpoint's folder\n"),
        (
            ["--data", "nowhere"],
            "evals: data='nowhere' is not allowed: it must be 'hub', 'demo' or an existing folder\n",
        ),
        (["--suite", "x"], "evals: suite 'x' is not known: choose from adept, likelihood, demo\n"),
        (["--models", "a,,b"], "evals: --models 'a,,b' has an empty name: separate names by single commas\n"),
        (
            ["--models", "a", "--checkpoint", "b"],
            "evals: --models and --checkpoint were both given: name all models in --models\n",
        ),
    ],
)
@pytest.mark.usefixtures("reported")
def test_one_sentence_on_failure(
    opened: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    tasks = [] if "--suite" in arguments else TASKS
    data = [] if "--data" in arguments else ["--data", "demo"]
    assert command.main(["run", *arguments, *tasks, *data, "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == message


def test_bad_record_fails_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("[]", encoding="utf-8")
    assert command.main(["report", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("evals: x/run.json is no run record of schema 2")


@pytest.mark.parametrize("limit", ["0", "-1", "0.5", "x"])
def test_limit_is_a_whole_number(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["run", "--limit", limit])
    assert ended.value.code == 2
    assert "is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("reported")
def test_compare(
    monkeypatch: pytest.MonkeyPatch, scripted: Open, items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, answer in (("one", " B"), ("two", " C"), ("three", " B")):
        engine = scripted(lambda prompt, answer=answer: answer, model_name=name)
        evaluate(engine_model(engine), data=str(items), output=tmp_path, tasks=["adept_arc_easy"], progress=False)
    output = ["--output", str(tmp_path)]
    assert command.main(["compare", "one", "two", *output]) == 0
    printed = capsys.readouterr().out
    assert "adept_arc_easy" in printed
    assert printed.count("item-") == 6
    assert command.main(["compare", "one", "three", "--format", "csv", "--no-items", *output]) == 0
    assert "item-" not in capsys.readouterr().out
    assert command.main(["compare", "one", "four", *output]) == 1
    assert capsys.readouterr().err == (
        "evals: no run and no model is called 'four': the models with runs are one, three, two\n"
    )
    assert command.main(["rescore", "one", *output]) == 1
    assert "has no task whose answers are programs" in capsys.readouterr().err


@pytest.mark.slow
def test_bundled_checkpoint_on_bundled_items(bundled_checkpoint: Path, tmp_path: Path) -> None:
    """`make eval` in small, in a process of its own, where the Hub cannot be reached; then its programs again."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "evals", *arguments, "--output", str(tmp_path)],
            cwd=ROOT,
            env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run("run", "--models", "persimmon-demo", "--limit", "8")
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("demo--persimmon-demo--")
    assert len(list(folder.glob("samples_*.jsonl"))) == len(SUITES["demo"])
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert re.search(r"8 of \d+", page.split("## Partial runs")[1])
    for path in folder.iterdir():
        assert str(ROOT) not in path.read_text(encoding="utf-8"), path.name
    assert re.search(r"adept_humaneval: \d of 8 pass", run("rescore", folder.name))
