"""Known programs get known verdicts: HumanEval's own solutions and stubs."""

from __future__ import annotations

from typing import Any

import pytest

from evals.sandbox import Outcome, Program, Sandbox


def _programs(problems: list[dict[str, Any]], body: str | None = None) -> list[Program]:
    return [
        Program(
            code=problem["prompt"] + (body or problem["canonical_solution"]),
            test=problem["test"],
            entry_point=problem["entry_point"],
        )
        for problem in problems
    ]


@pytest.mark.slow
def test_canonical_solutions_pass(sandbox: Sandbox, problems: list[dict[str, Any]]) -> None:
    verdicts = sandbox.run(_programs(problems))

    wrong = [
        (problem["task_id"], verdict)
        for problem, verdict in zip(problems, verdicts, strict=True)
        if verdict.outcome is not Outcome.PASSED
    ]
    assert not wrong
    # One solution does use eval; no other gives reason to look.
    assert {verdict.suspicions for verdict in verdicts} <= {(), ("uses eval",)}


def test_stubs_fail(sandbox: Sandbox, problems: list[dict[str, Any]]) -> None:
    verdicts = sandbox.run(_programs(problems, "    pass\n"))

    assert {verdict.outcome for verdict in verdicts} == {Outcome.FAILED}
    assert all(verdict.message for verdict in verdicts)
