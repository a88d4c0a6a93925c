"""Starts the processes, keeps the time, and saves what they write as it comes."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from evals.bench_engine.results import ROOT, Figure, Report, Section, as_json, write_report
from evals.bench_engine.sections import Plan

logger = logging.getLogger(__name__)

POLL_S = 0.25
OUT_OF_TIME = "there was no time left: the same command again goes on here"


class Process(Protocol):
    """What is asked of a started process."""

    returncode: int | None

    def poll(self) -> int | None: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...


@dataclass(kw_only=True)
class Run:
    """One run of all sections that are not there yet.

    Args:
        folder: of `engine.json`, which is written after every event.
        deadline: on `now`'s clock; `None`: no limit.
        start: starts a process for one request, for tests.
    """

    report: Report
    folder: Path
    device: str
    kernels: str
    deadline: float | None = None
    start: Callable[[dict[str, Any]], Process] | None = None
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def measure(self, plans: Sequence[Plan]) -> Report:
        """Measure what was not measured before, in this order; always gives the report."""
        waiting = [plan for plan in plans if self.report.section(plan.name).status != "measured"]
        for plan in waiting:
            self._keep(Section(name=plan.name, status="not reached", reason=OUT_OF_TIME))
        while waiting:
            plan = waiting[0]
            group = [plan]
            for other in waiting[1:]:
                if other.group != plan.group:
                    break
                group.append(other)
            if not self._fits(plan.start_s + plan.least_s):
                waiting.pop(0)
                continue
            done = self._process(group)
            waiting = [one for one in waiting if one.name not in done]
        return self.report

    def _fits(self, seconds: float) -> bool:
        return self.deadline is None or self.now() + seconds <= self.deadline

    def _keep(self, section: Section) -> None:
        self.report = self.report.with_section(section)
        write_report(self.report, self.folder)

    def _process(self, group: Sequence[Plan]) -> set[str]:
        """Run one process for sections of one group; the names of those that are dealt with, at least one."""
        with tempfile.TemporaryDirectory() as folder:
            events = Path(folder) / "events"
            events.touch()
            request = {
                "size": self.report.size,
                "dtype": self.report.dtype,
                "device": self.device,
                "kernels": self.kernels,
                "sections": [plan.name for plan in group],
                "earlier": [
                    {"name": one.name, "status": one.status, "figures": as_json(one.figures)}
                    for one in self.report.sections
                    if one.status == "measured"
                ],
                "events": str(events),
            }
            process = (self.start or start)(request)
            state = _State(group, began=self.now())
            reason = None
            try:
                with events.open(encoding="utf-8") as stream:
                    while True:
                        ended = process.poll() is not None
                        for line in stream:
                            self._take(state, json.loads(line))
                        if ended:
                            break
                        reason = self._why_stop(state)
                        if reason is not None:
                            break
                        self.sleep(POLL_S)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
            return self._finish(state, process, reason)

    def _take(self, state: _State, event: dict[str, Any]) -> None:
        if "begin" in event:
            state.begin(event["begin"], self.now())
        elif "figure" in event:
            state.figures.append(Figure(**event["figure"]))
            self._keep(self._section(state, "in part", "it was not finished"))
        else:
            assert state.current is not None
            section = self._section(state, event["status"], event["reason"])
            self._keep(replace(section, seconds=event["seconds"]))
            logger.info("%s: %s%s", section.name, section.status, f", {section.reason}" if section.reason else "")
            state.end()

    def _section(self, state: _State, status: Any, reason: str | None) -> Section:
        assert state.current is not None
        figures = tuple(state.figures) if status != "refused" or state.current.name == "gate" else ()
        if status == "refused" and state.current.function.endswith("other_model"):
            figures = tuple(one for one in state.figures if one.name.startswith(("error", "shortfall", "weights")))
        return Section(name=state.current.name, status=status, reason=reason, figures=figures)

    def _why_stop(self, state: _State) -> str | None:
        """Why the process is to be stopped now; `None`: it goes on."""
        if self.deadline is not None and self.now() > self.deadline:
            return OUT_OF_TIME
        if state.current is None:
            nearest = next((plan for plan in state.group if plan.name not in state.done), None)
            waited = self.now() - state.since
            if nearest is not None and waited > nearest.limit_s:
                return f"the process did not begin it within {nearest.limit_s:.0f} s"
            return None
        if self.now() - state.since > state.current.limit_s:
            return f"it was stopped after {state.current.limit_s:.0f} s"
        return None

    def _finish(self, state: _State, process: Process, reason: str | None) -> set[str]:
        """Note what became of the section that was on its way, if one was."""
        code = process.returncode
        if state.current is None and len(state.done) == len(state.group):
            return state.done
        victim = state.current or next(plan for plan in state.group if plan.name not in state.done)
        if code == 3 and state.current is None and state.done:
            return state.done  # the device was lost in a section that has said so
        why = reason or _how_it_ended(code)
        if state.current is None:
            state.current = victim
        status = "in part" if state.figures else "not reached" if why == OUT_OF_TIME else "failed"
        self._keep(self._section(state, status, why))
        logger.info("%s: %s, %s", victim.name, status, why)
        return state.done | {victim.name}


class _State:
    """Where one process stands."""

    def __init__(self, group: Sequence[Plan], *, began: float) -> None:
        self.group = group
        self.current: Plan | None = None
        self.figures: list[Figure] = []
        self.done: set[str] = set()
        self.since = began

    def begin(self, name: str, now: float) -> None:
        self.current = next(plan for plan in self.group if plan.name == name)
        self.figures = []
        self.since = now

    def end(self) -> None:
        assert self.current is not None
        self.done.add(self.current.name)
        self.current = None
        self.figures = []


def start(request: dict[str, Any]) -> Process:
    """A process of our own for one request; what it says goes to our stderr."""
    command = [sys.executable, "-m", "evals.bench_engine.child", json.dumps(request)]
    return subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with {code} before it was done: see stderr"
