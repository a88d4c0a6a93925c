"""One sandbox process and the talk with it. Every program has a nonce of its own, which only its judge is told."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

from evals.sandbox.errors import BrokenProtocol, LevelUnavailable, WorkerFault
from evals.sandbox.inside import wire
from evals.sandbox.inside.check_code import one_line
from evals.sandbox.inside.limits import Limits
from evals.sandbox.inside.outcomes import Outcome
from evals.sandbox.levels import INSIDE, Level, command, readable_folders
from evals.sandbox.program import Program, Verdict

_START_SECONDS = 30.0
_GRACE_SECONDS = 10.0  # beyond a program's own limit, which the judge keeps: only for a machine that stalls
_MAX_REPLY = 1 << 20
_MAX_PROGRAM = 16 << 20


class Worker:
    """A started sandbox. Not for several threads at once.

    Args:
        level: how it is held.
        limits: of every program.
        look: what to look for from inside, the arguments of `inside.look_around`.

    Raises:
        LevelUnavailable: it does not start.
    """

    def __init__(self, level: Level, limits: Limits, *, look: dict[str, Any] | None = None) -> None:
        self._limits = limits
        arguments, environment = command(level)
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise LevelUnavailable(f"{os.path.basename(arguments[0])} does not start: {error.strerror}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests = self._process.stdin.fileno()
        self._replies = self._process.stdout.fileno()
        self._received = wire.FrameBuffer(_MAX_REPLY)
        greeting = {
            "limits": asdict(limits),
            "sandboxed": level is not Level.NONE,
            "namespaces": readable_folders(level),
            "look": look,
        }
        try:
            self.report = self._greet(greeting)
        except BaseException:
            self.close()
            raise

    def _greet(self, greeting: dict[str, Any]) -> dict[str, Any]:
        try:
            self._send(wire.frame(greeting))
            reply = self._receive(time.monotonic() + _START_SECONDS)
        except WorkerFault as fault:
            raise LevelUnavailable(self._last_words() or str(fault)) from fault
        match reply:
            case ("ready", dict(report)):
                return report
            case ("unavailable", str(reason)):
                raise LevelUnavailable(reason)
        raise LevelUnavailable("the sandbox's first words make no sense")

    def run(self, program: Program) -> Verdict:
        """The verdict on one program.

        Raises:
            BrokenProtocol: what came is not the judge's alone.
            WorkerFault: there is none.

        After either this worker is of no more use.
        """
        nonce = secrets.token_hex(16)
        request = wire.frame((nonce, program.code, program.test, program.entry_point))
        if len(request) > _MAX_PROGRAM:
            return Verdict(
                outcome=Outcome.FAILED, message=f"longer than {_MAX_PROGRAM} bytes", seconds=0.0, suspicions=()
            )
        started = time.monotonic()
        self._send(request)
        verdicts: list[Verdict] = []
        while True:
            match self._receive(started + self._limits.seconds + _GRACE_SECONDS):
                case ("verdict", str(given), str(outcome), str(message), float(seconds), list(suspicions)):
                    if not secrets.compare_digest(given.encode(), nonce.encode()):
                        raise BrokenProtocol("a verdict came without the program's nonce")
                    verdicts.append(
                        Verdict(
                            outcome=Outcome(outcome),
                            message=public_text(message),
                            seconds=seconds,
                            suspicions=tuple(public_text(str(reason)) for reason in suspicions),
                        )
                    )
                case ("done", int(status)):
                    break
                case _:
                    raise WorkerFault("the sandbox's words make no sense")
        if len(verdicts) > 1:
            raise BrokenProtocol(f"{len(verdicts)} verdicts came for one program")
        if verdicts and status == 0:
            return verdicts[0]
        if not verdicts and status == -signal.SIGXCPU:
            # The test was busy with the program's answers where Python's clock cannot interrupt it.
            seconds = time.monotonic() - started
            message = f"not done within {self._limits.seconds:g} s"
            return Verdict(outcome=Outcome.TIMED_OUT, message=message, seconds=seconds, suspicions=())
        raise WorkerFault(f"the judge ended with status {status}{'' if verdicts else ' and no verdict'}")

    def _send(self, data: bytes) -> None:
        try:
            wire.write_all(self._requests, data)
        except wire.EndOfStream as error:
            raise WorkerFault("the sandbox has ended") from error

    def _receive(self, deadline: float) -> Any:
        try:
            while (data := self._received.take()) is None:
                wait = deadline - time.monotonic()
                if wait <= 0 or not select.select([self._replies], [], [], wait)[0]:
                    raise WorkerFault("the sandbox does not answer")
                piece = os.read(self._replies, 1 << 16)
                if not piece:
                    raise WorkerFault("the sandbox has ended")
                self._received.feed(piece)
            return wire.decode(data)
        except wire.WireError as error:
            raise WorkerFault("the sandbox's words make no sense") from error

    def _last_words(self) -> str:
        """The last line the process wrote on its standard error, once it is ended."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        assert self._process.stderr is not None
        lines = self._process.stderr.read(1 << 16).decode(errors="replace").strip().splitlines()
        return public_text(one_line(lines[-1])) if lines else ""

    def close(self) -> None:
        """End the process and everything in it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def public_text(text: str) -> str:
    """`text` without this machine's paths."""
    names = {str(INSIDE.parents[2]): "<repository>", sys.prefix: "<python>", sys.base_prefix: "<python>"}
    for path, name in sorted(names.items(), key=lambda item: -len(item[0])):
        if path.count("/") > 1:  # a prefix such as /usr says nothing, and stands in every other path
            text = text.replace(path, name)
    return text
