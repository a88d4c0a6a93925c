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
from model.interface import EngineError

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


def test_run_then_report(opened: list[Any], items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "results")]
    assert command.main(["run", "--data", str(items), "--device", "cpu", "--dtype", "float32", *output]) == 0
    printed = capsys.readouterr().out
    assert "adept_arc_easy exact_match: 25.0% of 12 (95 % interval 8.9% to 53.2%)" in printed
    assert "adept_arc_easy: warning: every answer is B" in printed
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert str(folder) in printed
    assert folder.name.startswith("folder--persimmon-demo--")
    ((checkpoint, options),) = opened
    assert checkpoint.endswith(command.BUNDLED_CHECKPOINT)
    assert options == {
        "revision": None,
        "device": "cpu",
        "dtype": "float32",
        "rope_position_dtype": "float32",
        "context_length": None,
    }
    page = tmp_path / "results" / "README.md"
    written = page.read_text(encoding="utf-8")
    assert "| exact_match " in written
    page.unlink()
    assert command.main(["report", *output]) == 0
    assert page.read_text(encoding="utf-8") == written


@pytest.mark.parametrize(("bundled", "source"), [(True, "demo"), (False, "hub")])
def test_default_source_of_items(
    opened: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bundled: bool, source: str
) -> None:
    import evals.run

    asked = []

    def evaluate(engine: Any, **options: Any) -> Any:
        asked.append(options["data"])
        raise EngineError("enough")

    monkeypatch.setattr(evals.run, "evaluate", evaluate)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    checkpoint = tmp_path / "model" / "demo" / "persimmon-demo" if bundled else tmp_path / "checkpoint"
    checkpoint.mkdir(parents=True)
    assert command.main(["run", "--checkpoint", str(checkpoint)]) == 1
    assert asked == [source]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "broken"], "evals: broken has no config.json: give a checkpoint's folder\n"),
        (
            ["--data", "nowhere"],
            "evals: data='nowhere' is not allowed: it must be 'hub', 'demo' or an existing folder\n",
        ),
        (["--tasks", "x"], "evals: task 'x' is not known: choose from adept_arc_easy, likelihood_arc_easy\n"),
    ],
)
def test_one_sentence_on_failure(
    opened: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command.main(["run", *arguments, "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == message


def test_bad_record_fails_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "runs" / "x"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("[]", encoding="utf-8")
    assert command.main(["report", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("evals: x/run.json is no run record of schema 1")


@pytest.mark.parametrize("limit", ["0", "-1", "0.5", "x"])
def test_limit_is_a_whole_number(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["run", "--limit", limit])
    assert ended.value.code == 2
    assert "is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.slow
def test_bundled_checkpoint_on_bundled_items(bundled_checkpoint: Path, tmp_path: Path) -> None:
    """`make eval` in small, in a process of its own, where the Hub cannot be reached."""
    done = subprocess.run(
        [sys.executable, "-m", "evals", "run", "--limit", "8", "--output", str(tmp_path)],
        cwd=command.ROOT,
        env=os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("demo--persimmon-demo--")
    assert len(list(folder.glob("samples_*.jsonl"))) == 2
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert re.search(r"\| 8 of \d+ ", page.split("## Partial runs")[1])
    for path in folder.iterdir():
        assert str(command.ROOT) not in path.read_text(encoding="utf-8"), path.name
