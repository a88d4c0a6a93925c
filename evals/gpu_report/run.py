"""The parts' processes: one after the other, each ended when its time is over, its output kept as it comes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.gpu_report.parts import ROOT, Work
from evals.gpu_report.results import GpuReport, Part, write_report

logger = logging.getLogger(__name__)

OUT_OF_TIME = "there was no time left: the same command again goes on here"
LOG_LINES = 60
LOGS = ROOT / "build" / "gpu_report" / "logs"
GRACE_S = 8.0  # what saves as it goes and minds its own time needs no more


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A process that has ended: its lines, its exit status (`None`: it was stopped), and its seconds."""

    lines: Sequence[str]
    code: int | None
    seconds: float


Start = Callable[[Work, float], Ended]


def run_parts(
    report: GpuReport,
    todo: Sequence[Work],
    *,
    folder: Path,
    deadline: float | None,
    start: Start | None = None,
    now: Callable[[], float] = time.monotonic,
    saved: Callable[[GpuReport], object] = lambda report: None,
) -> GpuReport:
    """Run what is not done yet, in order.

    Args:
        folder: of `gpu.json`.
        deadline: on `now`'s clock; `None`: every part has the time it is said to have in nine minutes, and those that
            take what is left have an hour.
        saved: called after each part.
    """

    def keep(part: Part) -> None:
        nonlocal report
        report = report.with_part(part)
        write_report(report, folder)
        saved(report)
        logger.info("%s: %s%s", part.name, part.status, f", {part.reason}" if part.reason else "")

    for work in todo:
        if report.part(work.name).status == "done":
            continue
        if work.absent is not None:
            keep(Part(name=work.name, status="absent", reason=work.absent))
            continue
        left = 3600.0 if deadline is None else deadline - now()
        if left < work.least_s:
            if not report.part(work.name).found:  # what an earlier run found stays
                keep(Part(name=work.name, status="not reached", reason=OUT_OF_TIME))
            continue
        ended = (start or run_process)(work, min(left, work.share_s))
        found, missing = work.read(ended.lines, ended.code)
        if ended.code is None:
            missing = f"it was stopped after {ended.seconds:.0f} s" + (f"; {missing}" if missing else "")
        keep(
            Part(
                name=work.name,
                status="done" if missing is None else "in part" if found else "failed",
                reason=missing,
                seconds=round(ended.seconds, 1),
                found=found,
                log=() if missing is None else tuple(ended.lines[-LOG_LINES:]),
            )
        )
    return report


def run_process(work: Work, seconds: float) -> Ended:
    """Run a part's command for at most so many seconds, and end it with everything it has started. All it says is in
    `LOGS`, as it comes."""
    log = LOGS / f"{work.name.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = list(work.command(max(seconds - GRACE_S, 1.0)))
    logger.info("%s: %s", work.name, " ".join(command))
    begin = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(work.environment),
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None or code is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return Ended(lines=lines, code=code, seconds=time.monotonic() - begin)
