"""From what a model wrote to a program."""

from __future__ import annotations

from typing import Any

import pytest

from evals.code_runner import use_sandbox
from evals.sandbox import Outcome, Program, Verdict
from evals.tasks.programs import cut_body, program_code, run_tests, run_uncut_tests, score_program

PROMPT = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef f(x):\n    """Say x."""\n'


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ("    return x\n", "    return x\n"),
        ("    return x\n\n\ndef g(): pass", "    return x\n\n"),
        ("    return x\nassert f(1)\n", "    return x"),
        ("    return x\n# done\nclass A: pass", "    return x"),
        ("    if x:\n        return x\n    # inside\n", "    if x:\n        return x\n    # inside\n"),
        ("\ndef", ""),
        ("", ""),
    ],
)
def test_a_body_ends_at_the_next_top_level_statement(answer: str, body: str) -> None:
    assert cut_body(answer) == body
    assert program_code(PROMPT, "f", answer) == PROMPT + body


def test_a_code_block_that_defines_the_function_is_the_program() -> None:
    answer = "Sure:\n```python\ndef f(x):\n    return helper(x)\n\nassert f(1)\n```\nAs you see"
    code = program_code(PROMPT, "f", answer)
    assert (
        code == "import math\n\n\ndef helper(x):\n    return x\n\n\n\ndef f(x):\n    return helper(x)\n\nassert f(1)\n"
    )
    assert program_code(PROMPT, "f", answer.replace("\n```\nAs you see", "\n")) == code  # cut short at the limit
    other = "```\nprint(1)\n```\n" + answer
    assert program_code(PROMPT, "f", other) == code


def test_a_code_block_at_the_beginning_is_the_body() -> None:
    assert program_code(PROMPT, "f", "\n```py\n    return x\n```\nDone") == PROMPT + "    return x\n"
    assert program_code(PROMPT, "f", "```\ndef fine(): pass\n```") == PROMPT + "def fine(): pass\n"


def test_a_block_later_on_is_not_the_body() -> None:
    assert program_code(PROMPT, "f", "    return x\n```\nother\n```\n") == PROMPT + "    return x\n```\nother\n```\n"


class Scripted:
    """A sandbox that passes what says so."""

    def __init__(self) -> None:
        self.programs: list[Program] = []

    def run(self, programs: Any, *, workers: Any = None, progress: Any = None) -> list[Verdict]:
        self.programs += programs
        return [
            Verdict(
                outcome=Outcome.PASSED if "pass" in program.code else Outcome.FAILED,
                message="m",
                seconds=0.1,
                suspicions=("imports ctypes",),
            )
            for program in programs
        ]


def test_the_filter_keeps_answers_with_their_items() -> None:
    docs = [
        {"prompt": f"def f{n}():\n", "entry_point": f"f{n}", "test": f"def check(c): assert {n}\n"} for n in range(3)
    ]
    sandbox: Any = Scripted()
    with use_sandbox(sandbox):
        got = run_tests([["    pass\nassert 1"], ["    x", "    pass"], ["    y"]], docs)
        uncut = run_uncut_tests([["    pass\nassert 1"]], docs[:1])
    assert [[verdict["outcome"] for verdict in verdicts] for verdicts in got] == [
        ["passed"],
        ["failed", "passed"],
        ["failed"],
    ]
    assert got[0][0] == {
        "outcome": "passed",
        "message": "m",
        "suspicions": ["imports ctypes"],
        "code": "def f0():\n    pass",
    }
    assert uncut[0][0]["code"] == "def f0():\n    pass\nassert 1"
    assert [program.entry_point for program in sandbox.programs] == ["f0", "f1", "f1", "f2", "f0"]


@pytest.mark.parametrize(
    ("outcome", "score", "failed"),
    [("passed", 1.0, 0.0), ("failed", 0.0, 0.0), ("forged", 0.0, 0.0), ("infrastructure fault", 0.0, 1.0)],
)
def test_only_passed_is_right_and_a_fault_is_no_answer(outcome: str, score: float, failed: float) -> None:
    assert score_program({}, [{"outcome": outcome}]) == {"pass@1": score, "answer": outcome, "item_failed": failed}
