"""Which tasks belong together."""

from __future__ import annotations

from evals.errors import EvaluationError

ADEPT = (
    "adept_mmlu",
    "adept_winogrande",
    "adept_arc_easy",
    "adept_arc_challenge",
    "adept_triviaqa",
    "adept_humaneval",
)
"""Adept's comparison: 1-shot, generated."""
LIKELIHOOD = (
    "likelihood_mmlu",
    "likelihood_winogrande",
    "likelihood_arc_easy",
    "likelihood_arc_challenge",
    "standard_triviaqa",
    "standard_humaneval",
)
"""lm-eval's own forms of the same six; two of them are generated there too."""
SUITES = {"adept": ADEPT, "likelihood": LIKELIHOOD, "demo": ADEPT + LIKELIHOOD}
"""`demo` is both over the bundled checkpoints' world."""


def tasks_of(suites: str) -> tuple[str, ...]:
    """The tasks of suites, separated by commas, each once.

    Raises:
        EvaluationError: there is no such suite.
    """
    names: dict[str, None] = {}
    for suite in suites.split(","):
        if suite not in SUITES:
            raise EvaluationError(f"suite {suite!r} is not known: choose from {', '.join(SUITES)}")
        names |= dict.fromkeys(SUITES[suite])
    return tuple(names)


def benchmark_of(task: str) -> str:
    """The benchmark a task asks, such as `arc_easy` of `adept_arc_easy`."""
    return task.partition("_")[2]
