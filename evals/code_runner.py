"""The sandbox that the HumanEval tasks of this process run their programs in.

lm-eval calls a task's functions with texts alone, so the sandbox cannot be an argument. A run opens it before anything
is generated (:func:`use_sandbox`); under lm-eval's own command line the first program opens it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm  # type: ignore[import-untyped]

from evals.sandbox import Program, Sandbox, Verdict, open_sandbox

_sandboxes: list[Sandbox] = []


@contextmanager
def use_sandbox(sandbox: Sandbox) -> Iterator[None]:
    """Run programs in `sandbox` inside the `with` block."""
    _sandboxes.append(sandbox)
    try:
        yield
    finally:
        _sandboxes.remove(sandbox)


def run_programs(programs: Sequence[Program]) -> list[Verdict]:
    """Verdicts in order.

    Raises:
        SandboxUnavailable: no sandbox was given and none can be had here.
    """
    if not _sandboxes:
        _sandboxes.append(open_sandbox())
    with tqdm(total=len(programs), desc="running programs", disable=None) as bar:
        return _sandboxes[-1].run(programs, progress=bar.update)
