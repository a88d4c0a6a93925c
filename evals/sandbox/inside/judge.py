"""Runs one test against a program that lives in another process, and writes the verdict.

The test runs here, the program in a process forked before anything about the test was read. The test's `candidate` is
a stand-in that sends its arguments over a pipe and gets plain values back. So the program can answer calls and nothing
else: neither the test, nor `assert`, nor the nonce, nor the pipe of verdicts is in a process it runs in, and no value
that reaches the test brings the program's methods along.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from . import wire
from .answerer import answer
from .check_code import Misplaced, namespace, one_line, place
from .limits import Limits, apply
from .outcomes import Decided, Outcome
from .questions import Foreign, Questions

REQUESTS, VERDICTS = 0, 1
_MAX_REQUEST = 64 << 20  # the parent sends less; this only bounds a mistake
_MAX_SUSPICIONS = 20
_CLOCK_REPEATS = 0.25  # seconds: an exception raised inside a destructor is lost, so the clock strikes again

Pipe = tuple[int, int]


def judge_one(limits: Limits, confine: Callable[[list[int]], None]) -> None:
    """Fork the program's process, read one request, write one verdict. Runs in a process of its own.

    Args:
        limits: of the program's process; the judge gets them too.
        confine: leaves the calling process the system calls it needs, and those processes to signal.
    """
    questions, answers, output = os.pipe(), os.pipe(), os.pipe()
    program = os.fork()
    if program == 0:
        _become_program(questions, answers, output, limits, confine)
    for descriptor in (questions[0], answers[1], output[1]):
        os.close(descriptor)
    talk = Questions(program=program, questions=questions[1], answers=answers[0], output=output[0], limits=limits)
    signal.signal(signal.SIGALRM, talk.strike)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds, _CLOCK_REPEATS)
    apply(limits)
    confine([program])
    sys.stdout = sys.stderr = _Nowhere()

    started = time.monotonic()
    nonce, code, test, entry_point = "", "", "", ""
    try:
        nonce, code, test, entry_point = wire.read_frame(REQUESTS, _MAX_REQUEST)
        decided = _decide(talk, code, test, entry_point)
    except Decided as decision:
        decided = decision
    # A test that swallowed the first decision does not get another.
    decided = talk.decided or decided
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    # The group too, for an unsandboxed program may have started others.
    for target in (program, -program):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, signal.SIGKILL)
    seconds = time.monotonic() - started
    verdict = ("verdict", nonce, str(decided.outcome), one_line(decided.message), seconds, talk.suspicions)
    wire.write_all(VERDICTS, wire.frame(verdict))
    with contextlib.suppress(ChildProcessError):
        os.waitpid(program, 0)


def _become_program(
    questions: Pipe, answers: Pipe, output: Pipe, limits: Limits, confine: Callable[[list[int]], None]
) -> NoReturn:
    """Keep the ends a program needs, and never return."""
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setsid()
        nothing, nobody = os.pipe()
        os.close(nobody)
        for source, target in ((nothing, 0), (output[1], 1), (output[1], 2)):
            os.dup2(source, target)
        for descriptor in (nothing, questions[1], answers[0], *output):
            os.close(descriptor)
        apply(limits)
        confine([])
        answer(questions[0], answers[1])
        status = 0
    finally:
        os._exit(status)


def _decide(talk: Questions, code: str, test: str, entry_point: str) -> Decided:
    """Run the test.

    Raises:
        Decided: so it was decided without the test.
    """
    try:
        _run(talk, code, test, entry_point)
    except Misplaced as fault:
        return Decided(Outcome.INFRASTRUCTURE_FAULT, str(fault))
    except MemoryError:
        return Decided(Outcome.OUT_OF_MEMORY, "the test ran out of memory with the program's answers")
    except Decided:
        raise
    except BaseException as error:
        text = str(error) if isinstance(error, Foreign) else f"{type(error).__name__}: {error}"
        if error is talk.raised:
            return Decided(Outcome.FAILED, text)
        where = place(error, test)
        if not isinstance(error, AssertionError):
            return Decided(Outcome.FAILED, f"{text} ({where})")
        # Most texts of assertions stand in the line already.
        return Decided(Outcome.FAILED, where if str(error) in where else f"{where} ({error})")
    return Decided(Outcome.PASSED)


def _run(talk: Questions, code: str, test: str, entry_point: str) -> None:
    """Return if the program passes."""
    random.seed(0)  # tests that draw their arguments draw the same every time
    names = namespace(code, test, entry_point)
    found = talk.ask("read", code)
    if isinstance(found, list):
        talk.suspicions += [one_line(str(reason)) for reason in found[:_MAX_SUSPICIONS]]
    talk.ask("load", entry_point)

    def candidate(*arguments: Any, **keywords: Any) -> Any:
        return talk.ask("call", arguments, keywords)

    candidate.__name__ = candidate.__qualname__ = entry_point
    # As in HumanEval's own harness, a test may also use the function's name.
    names.setdefault(entry_point, candidate)
    names["check"](candidate)
    # Whatever the program wrote after its last answer comes before the answer to this.
    talk.ask("end")


class _Nowhere:
    """Where a test's own printing goes."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
