"""Shared by the sandbox's tests: a sandbox of each level with small limits, and one program run in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.sandbox import Level, Limits, Program, Sandbox, SandboxUnavailable, Verdict, open_sandbox

HUMANEVAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "humaneval.jsonl"
SQUARES = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n"
# For programs that answer with the list of what they managed to do.
NOTHING_WORKED = "def check(candidate):\n    worked = candidate()\n    assert worked == [], worked\n"

RunOne = Callable[..., Verdict]


def open_or_skip(level: Level, limits: Limits) -> Sandbox:
    """A sandbox of that level; in CI bubblewrap is installed, so there it is no reason to skip."""
    try:
        return open_sandbox(limits=limits, levels=(level,))
    except SandboxUnavailable as error:
        if level is Level.BUBBLEWRAP and os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=[Level.BUBBLEWRAP, Level.NAMESPACES])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Each level in turn, with limits that a hostile program reaches soon."""
    return open_or_skip(request.param, Limits(seconds=5.0, memory_bytes=256 << 20))


@pytest.fixture(scope="session")
def run_one(sandbox: Sandbox) -> RunOne:
    """Runs `code`, which defines f, under a test (default: f squares)."""

    def run(code: str, test: str = SQUARES) -> Verdict:
        return sandbox.run([Program(code=code, test=test, entry_point="f")])[0]

    return run


@pytest.fixture(scope="session")
def run_hastily(sandbox: Sandbox) -> RunOne:
    """As `run_one`, with half a second."""
    hasty = Sandbox(sandbox.level, replace(sandbox.limits, seconds=0.5), report={}, refused={})

    def run(code: str, test: str = SQUARES) -> Verdict:
        return hasty.run([Program(code=code, test=test, entry_point="f")])[0]

    return run


@pytest.fixture(scope="session")
def manages_nothing(run_one: RunOne) -> Callable[[str], None]:
    """Runs expressions inside and asserts that every one of them fails."""

    def attempt(expressions: list[str], imports: str = "import os") -> None:
        code = f"""
{imports}
def f():
    worked = []
    for expression in {expressions!r}:
        try:
            eval(expression, globals())
            worked.append(expression)
        except (OSError, RuntimeError, LookupError, ImportError):
            pass
    return worked
"""
        verdict = run_one(code, NOTHING_WORKED)
        assert verdict.outcome == "passed", verdict

    return attempt


@pytest.fixture(scope="session")
def problems() -> list[dict[str, Any]]:
    """HumanEval's problems beside the repository; the test skips without them."""
    if not HUMANEVAL.is_file():
        pytest.skip("no HumanEval in ../shared/data")
    return [json.loads(line) for line in HUMANEVAL.read_text(encoding="utf-8").splitlines()]
