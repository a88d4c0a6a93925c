"""What goes into the sandbox and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

from evals.sandbox.inside.outcomes import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A program and its test, as HumanEval writes them.

    Args:
        code: the problem's prompt, to the letter, and after it the completion. What stands before the line that
            starts with `def` and the entry point is taken for the prompt's; the test may use its names.
        test: defines `check(candidate)`, which raises if the function is wrong.
        entry_point: the function's name.

    Raises:
        ValueError: the entry point is no Python name.
    """

    code: str
    test: str
    entry_point: str

    def __post_init__(self) -> None:
        if not self.entry_point.isidentifier():
            raise ValueError(f"entry_point={self.entry_point!r} is not allowed: it must be a Python name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of a program.

    Attributes:
        outcome: how it ended.
        message: one line of at most 200 printable characters, empty for a pass.
        seconds: from the program's arrival in the sandbox to its verdict; for a fault, what was waited.
        suspicions: what in the program's text or behaviour a person should look at, whatever the outcome.
    """

    outcome: Outcome
    message: str
    seconds: float
    suspicions: tuple[str, ...]
