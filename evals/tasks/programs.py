"""HumanEval's answers: cut out of what the model wrote, joined with the prompt, and run in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.code_runner import run_programs
from evals.sandbox import Outcome, Program

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\nassert")
"""Each begins a new top-level statement; lm-eval's list, and `assert`."""

_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def cut_body(text: str) -> str:
    """What comes before the first new top-level statement."""
    ends = [end for stop in STOPS if (end := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def program_code(prompt: str, entry_point: str, answer: str, *, cut: Callable[[str], str] = cut_body) -> str:
    """The program an answer makes.

    Chat models write a code block. One that defines the function is taken for it, after what stands before the
    function in the prompt (imports, and functions it may use); else a block the answer begins with is the body; else
    the answer itself, up to the next top-level statement, is.
    """
    blocks = [match[1] for match in _FENCED.finditer(answer)]
    definition = re.compile(rf"^def {re.escape(entry_point)}\b", re.MULTILINE)
    for block in blocks:
        if definition.search(block):
            found = definition.search(prompt)
            return f"{prompt[: found.start()] if found else ''}\n{block}"
    if blocks and answer.lstrip().startswith("```"):
        return prompt + blocks[0]
    return prompt + cut(answer)


CUTS: dict[str, Callable[[str], str]] = {"adept_humaneval": cut_body, "standard_humaneval": str}
"""How each task cuts an answer that holds no code block: lm-eval's own leaves it as the stop strings did."""


def program_of(task: str, doc: Mapping[str, Any], answer: str) -> Program:
    """The program that `task` makes of an answer to an item."""
    code = program_code(doc["prompt"], doc["entry_point"], answer, cut=CUTS[task])
    return Program(code=code, test=doc["test"], entry_point=doc["entry_point"])


def run_tests(responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """lm-eval's `custom` filter: every program is run against its item's tests, all of them in one go.

    Returns:
        for each answer `outcome` (see `evals.sandbox.Outcome`), `message`, `suspicions` and `code`.
    """
    return _run("adept_humaneval", responses, docs)


def run_uncut_tests(
    responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]
) -> list[list[dict[str, Any]]]:
    """:func:`run_tests` for lm-eval's own task."""
    return _run("standard_humaneval", responses, docs)


def _run(
    task: str, responses: Sequence[Sequence[str]], docs: Sequence[Mapping[str, Any]]
) -> list[list[dict[str, Any]]]:
    programs = [
        program_of(task, doc, answer) for answers, doc in zip(responses, docs, strict=True) for answer in answers
    ]
    verdicts = iter(zip(programs, run_programs(programs), strict=True))
    return [
        [
            {
                "outcome": str(verdict.outcome),
                "message": verdict.message,
                "suspicions": list(verdict.suspicions),
                "code": program.code,
            }
            for _, (program, verdict) in zip(answers, verdicts, strict=False)
        ]
        for answers in responses
    ]


def score_program(doc: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """lm-eval's `process_results`: pass@1 of one answer. An infrastructure fault is no answer of the model's, so the
    record leaves the item out as failed."""
    outcome = results[0]["outcome"]
    return {
        "pass@1": float(outcome == Outcome.PASSED),
        "answer": outcome,
        "item_failed": float(outcome == Outcome.INFRASTRUCTURE_FAULT),
    }
