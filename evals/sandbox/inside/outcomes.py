"""How a program's run can end."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Only `PASSED` is a pass. Only `INFRASTRUCTURE_FAULT` says nothing about the program and is never counted."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    EARLY_EXIT = "early exit"
    FORGED = "forged"
    INFRASTRUCTURE_FAULT = "infrastructure fault"


class Decided(BaseException):
    """The verdict is known. Not an `Exception`, so that a test's `except Exception` lets it pass."""

    def __init__(self, outcome: Outcome, message: str = "") -> None:
        super().__init__(outcome, message)
        self.outcome = outcome
        self.message = message
