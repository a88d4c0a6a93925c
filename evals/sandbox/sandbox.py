"""Choosing the strongest level that holds, and running many programs in it."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from queue import Empty, SimpleQueue
from typing import Any

from evals.sandbox.canaries import check_level
from evals.sandbox.errors import BrokenProtocol, LevelUnavailable, SandboxUnavailable, WorkerFault
from evals.sandbox.inside.limits import Limits
from evals.sandbox.inside.outcomes import Outcome
from evals.sandbox.levels import Level, bubblewrap_version
from evals.sandbox.program import Program, Verdict
from evals.sandbox.worker import Worker

# Raised by whoever changes what a verdict can depend on.
VERSION = 1
STRONGEST_FIRST = (Level.BUBBLEWRAP, Level.NAMESPACES)
_ATTEMPTS = 2


class Sandbox:
    """A level that has passed its self-test. Made by `open_sandbox`; holds nothing open between runs.

    Attributes:
        level: how programs are held.
        limits: what each may use.
        refused: why each stronger level is not used.
    """

    def __init__(self, level: Level, limits: Limits, *, report: dict[str, Any], refused: dict[Level, str]) -> None:
        self.level = level
        self.limits = limits
        self.refused = refused
        self._report = report

    def describe(self) -> dict[str, Any]:
        """What the record of a run says about its sandbox, as JSON values."""
        return {
            "level": str(self.level),
            "sandboxed": self.level is not Level.NONE,
            "version": VERSION,
            "refused": {str(level): reason for level, reason in self.refused.items()},
            "limits": {**asdict(self.limits), "processes": 1, "threads": 1, "file_bytes": 0}
            if self.level is not Level.NONE
            else asdict(self.limits),
            "python": self._report["python"],
            "kernel": ".".join(platform.release().split(".")[:2]),
            "machine": platform.machine(),
            "seccomp": self.level is not Level.NONE,
            "landlock": self._report.get("landlock") if self.level is Level.NAMESPACES else None,
            "bubblewrap": bubblewrap_version() if self.level is Level.BUBBLEWRAP else None,
        }

    def run(
        self,
        programs: Sequence[Program],
        *,
        workers: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Verdict]:
        """The verdict on every program, in their order.

        Args:
            workers: sandboxes side by side (default: the cores this process may use).
            progress: called in this thread with the number of verdicts that have come since its last call.

        Raises:
            ValueError: `workers` is below 1.
        """
        if workers is not None and workers < 1:
            raise ValueError(f"workers={workers} is not allowed: it must be at least 1")
        waiting: SimpleQueue[int] = SimpleQueue()
        for place in range(len(programs)):
            waiting.put(place)
        done: SimpleQueue[tuple[int, Verdict]] = SimpleQueue()
        threads = [
            threading.Thread(target=self._work, args=(programs, waiting, done), daemon=True)
            for _ in range(min(workers or usable_cores(), len(programs)))
        ]
        for thread in threads:
            thread.start()
        verdicts: dict[int, Verdict] = {}
        try:
            while len(verdicts) < len(programs):
                place, verdict = done.get()
                verdicts[place] = verdict
                if progress is not None:
                    progress(1)
        finally:
            # After an interruption: what nobody has begun is not begun any more.
            while not waiting.empty():
                _take(waiting)
            for thread in threads:
                thread.join()
        return [verdicts[place] for place in range(len(programs))]

    def _work(
        self, programs: Sequence[Program], waiting: SimpleQueue[int], done: SimpleQueue[tuple[int, Verdict]]
    ) -> None:
        worker: Worker | None = None
        try:
            while (place := _take(waiting)) is not None:
                worker, verdict = self._run_one(worker, programs[place])
                done.put((place, verdict))
        finally:
            if worker is not None:
                worker.close()

    def _run_one(self, worker: Worker | None, program: Program) -> tuple[Worker | None, Verdict]:
        """The verdict and the worker for the next program. A fault gets a second attempt in a new sandbox."""
        started = time.monotonic()
        outcome, message = Outcome.INFRASTRUCTURE_FAULT, ""
        for _ in range(_ATTEMPTS):
            try:
                worker = worker or Worker(self.level, self.limits)
                return worker, worker.run(program)
            except BrokenProtocol as fault:
                outcome, message = Outcome.FORGED, str(fault)
            except (WorkerFault, LevelUnavailable) as fault:
                message = str(fault)
            except Exception as error:  # whatever it is, it is not the program's
                message = f"{type(error).__name__} in the sandbox's own code"
            if worker is not None:
                worker.close()
                worker = None
            if outcome is Outcome.FORGED:
                break
        seconds = time.monotonic() - started
        return None, Verdict(outcome=outcome, message=message, seconds=seconds, suspicions=())


def _take(waiting: SimpleQueue[int]) -> int | None:
    try:
        return waiting.get_nowait()
    except Empty:
        return None


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_sandbox(
    *,
    limits: Limits | None = None,
    allow_unsandboxed: bool = False,
    levels: Sequence[Level] = STRONGEST_FIRST,
) -> Sandbox:
    """The strongest level that passes its self-test here and now. Meant to be called at the start of every run.

    Args:
        limits: of every program.
        allow_unsandboxed: whether programs may run with the caller's own rights if no level works. Such a run is
            stamped: its level is `Level.NONE` and `describe()["sandboxed"]` false.
        levels: those to try, in order.

    Raises:
        SandboxUnavailable: none works.
    """
    limits = limits or Limits()
    refused: dict[Level, str] = {}
    candidates = [*levels, Level.NONE] if allow_unsandboxed else list(levels)
    for level in candidates:
        try:
            report = check_level(level, limits)
        except LevelUnavailable as error:
            refused[level] = str(error)
        else:
            return Sandbox(level, limits, report=report, refused=refused)
    tried = "; ".join(f"{level}: {reason}" for level, reason in refused.items())
    raise SandboxUnavailable(
        f"no sandbox for generated programs works here ({tried}): install bubblewrap, or allow user namespaces to "
        "ordinary users, or pass allow_unsandboxed to run the programs with your own rights"
    )
