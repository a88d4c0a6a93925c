"""`python -m evals.sandbox`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.sandbox import Sandbox
from evals.sandbox.__main__ import main

PROBLEM = {
    "prompt": "def f(x):\n",
    "canonical_solution": "    return x * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    "entry_point": "f",
}


def _file(folder: Path, problem: dict[str, Any]) -> Path:
    path = folder / "problems.jsonl"
    path.write_text(json.dumps(problem) + "\n")
    return path


@pytest.mark.slow
def test_check_says_what_works(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--level", sandbox.level]) == 0

    assert f"{sandbox.level}: works" in capsys.readouterr().out


def test_bench_prints_a_rate(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(_file(tmp_path, PROBLEM))

    assert main(["--bench", file, "--level", sandbox.level, "--workers", "1", "--repeat", "3"]) == 0

    assert "1 workers: 3 programs in" in capsys.readouterr().out


def test_bench_refuses_what_does_not_pass(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(_file(tmp_path, {**PROBLEM, "canonical_solution": "    pass\n"}))

    assert main(["--bench", file, "--level", sandbox.level]) == 1

    assert "1 of 1 solutions do not pass" in capsys.readouterr().err


def test_bench_names_a_file_that_is_no_humaneval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--bench", str(_file(tmp_path, {"prompt": 1}))]) == 1

    assert "problems.jsonl is not HumanEval as JSONL" in capsys.readouterr().err


def test_workers_must_be_some() -> None:
    with pytest.raises(SystemExit):
        main(["--check", "--workers", "0"])
