"""What is measured, the most important first.

Sections of one group that follow each other share a process, and with it a loaded model. A section is begun if its
least time is left; one that takes longer than its limit is stopped, and the rest go on without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.errors import EvaluationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One section.

    Attributes:
        name, title: the latter for the page.
        group: processes are started by group. function: `module:function`, called with `child.Bench`.
        needs: sections that must have been measured; else it is refused.
        least_s: time that must be left to begin it; limit_s: after which it is stopped; start_s: what a process takes
            before its first section (which loads the model). All are guesses for one H100 or H200, made before any
            was had.
    """

    name: str
    title: str
    group: str
    function: str
    needs: tuple[str, ...] = ()
    least_s: float = 5.0
    limit_s: float = 180.0
    start_s: float = 20.0


ROOFS, GATE, DECODE, SPARSE = "roofs", "gate", "decode", "sparse"
PREFILL, MIXED, TTFT, NO_GRAPHS, GRID = "prefill", "mixed", "ttft", "no-graphs", "grid"
EAGER, BATCHED, COMPILED = "hf-eager", "hf-generate-batch", "hf-static-compile"
LLAMA, MPT = "llama-2-7b", "mpt-7b"


def _ours(name: str, title: str, function: str, *needs: str, **rest: float) -> Plan:
    return Plan(name=name, title=title, group="ours", function=f"ours:{function}", needs=needs, **rest)


def _peer(name: str, title: str, function: str, **rest: float) -> Plan:
    return Plan(name=name, title=title, group="peers", function=f"peers:{function}", needs=(GATE,), **rest)


def _other(name: str, title: str) -> Plan:
    return Plan(name=name, title=title, group=name, function="ours:other_model", needs=(ROOFS,), least_s=20)


SECTIONS = (
    _ours(ROOFS, "What the device gives", "roofs"),
    _ours(GATE, "Gate", "gate", ROOFS, least_s=20, limit_s=300),
    _ours(DECODE, "Decoding", "decode", ROOFS, GATE, least_s=15),
    _ours(SPARSE, "Exact sparse MLP", "sparse", ROOFS, GATE, least_s=10),
    _ours(PREFILL, "Reading prompts", "prefill", ROOFS, GATE, least_s=10),
    _ours(MIXED, "Mixed requests", "mixed", GATE, least_s=15),
    _ours(TTFT, "Time to first token", "ttft", GATE, least_s=3),
    _ours(NO_GRAPHS, "With and without CUDA graphs", "no_graphs", GATE),
    _ours(GRID, "Captured steps", "grid", ROOFS, GATE, least_s=10),
    _peer(EAGER, "Hugging Face generate", "eager", least_s=10),
    _peer(BATCHED, "Hugging Face generate_batch", "batched", least_s=25),
    _peer(COMPILED, "Hugging Face static cache and torch.compile", "compiled", least_s=40, limit_s=200),
    _other(LLAMA, "Llama-2-7B"),
    _other(MPT, "MPT-7B"),
)
NAMES = tuple(plan.name for plan in SECTIONS)


def plan_of(name: str) -> Plan:
    """The plan of a section."""
    return next(plan for plan in SECTIONS if plan.name == name)


def choose(names: Sequence[str]) -> tuple[Plan, ...]:
    """Those of some names and what they need, in their order; no names: all.

    Raises:
        EvaluationError: a name stands for nothing.
    """
    for name in names:
        if name not in NAMES:
            raise EvaluationError(f"--only {name} is not known: choose from {', '.join(NAMES)}")
    wanted = set(names or NAMES)
    for plan in reversed(SECTIONS):
        if plan.name in wanted:
            wanted |= set(plan.needs)
    return tuple(plan for plan in SECTIONS if plan.name in wanted)
