"""The judge's end of the talk with a program: one question at a time, and what each kind of reply means."""

from __future__ import annotations

import builtins
import contextlib
import os
import select
import signal
from typing import Any

from . import wire
from .check_code import one_line
from .limits import Limits
from .outcomes import Decided, Outcome

_HEAD_ROOM = 1 << 10  # what an answer's frame holds beside the value


class Foreign(Exception):
    """An exception of a type the program made up; the text names it."""


class Questions:
    """Asks the program; counts what it prints.

    Args:
        program: its process id.
        questions, answers, output: descriptors to write to, to read from, and to read what it prints from.

    Attributes:
        decided: the first decision made, if any; nothing is asked after it.
        raised: what the program raised last, as the exception the test got.
        suspicions: what the program did that a person should look at.
    """

    def __init__(self, *, program: int, questions: int, answers: int, output: int, limits: Limits) -> None:
        self.decided: Decided | None = None
        self.raised: BaseException | None = None
        self.suspicions: list[str] = []
        self._program = program
        self._questions, self._answers, self._output = questions, answers, output
        self._limits = limits
        self._printed = 0
        self._received = wire.FrameBuffer(limits.answer_bytes + _HEAD_ROOM)
        self._poll = select.poll()
        for descriptor in (answers, output):
            self._poll.register(descriptor, select.POLLIN)

    def strike(self, *_: object) -> None:
        """Time is up: a handler of signals."""
        self.decided = self.decided or self._too_late()
        raise self.decided

    def ask(self, verb: str, *arguments: Any) -> Any:
        """The program's answer.

        Raises:
            Decided: there is none, or it decides the verdict.
            Exception: the program raised it.
        """
        if self.decided is not None:
            raise self.decided
        try:
            return self._answered(verb, *arguments)
        except Decided as decision:
            self.decided = decision
            raise

    def _answered(self, verb: str, *arguments: Any) -> Any:
        # A program that speaks before it is asked cannot know the number.
        number = int.from_bytes(os.urandom(8), "big")
        try:
            wire.write_all(self._questions, wire.frame((number, verb, *arguments)))
        except wire.EndOfStream:
            raise self._ended() from None
        try:
            reply = wire.decode(self._wait())
        except wire.FrameTooLong:
            raise Decided(Outcome.FAILED, f"the program returned more than {self._limits.answer_bytes} bytes") from None
        except wire.WireError:
            raise self._broken() from None
        if self._received or not isinstance(reply, tuple) or reply[:1] != (number,):
            raise self._broken()
        match reply[1:]:
            case ("returned", value):
                return value
            case ("raised", "MemoryError", str()):
                raise Decided(Outcome.OUT_OF_MEMORY, f"MemoryError: over {self._limits.memory_bytes >> 20} MiB")
            case ("raised", str(name), str(text)):
                self.raised = _exception(name, text)
                raise self.raised
            case ("exited", str(status)):
                raise Decided(Outcome.EARLY_EXIT, f"SystemExit: {status}")
            case ("own equality", str(name)):
                self.suspicions.append(f"returned a {one_line(name)} that decides what it equals")
                raise Decided(Outcome.FORGED, f"the program returned a {name} that decides by itself what it equals")
        raise self._broken()

    def _wait(self) -> bytes:
        """The next answer's bytes; what the program prints meanwhile is counted and thrown away."""
        while True:
            data = self._received.take()
            if data is not None:
                return data
            ready = dict(self._poll.poll())
            if self._output in ready:
                self._drain()
            if self._answers in ready:
                piece = os.read(self._answers, 1 << 16)
                if not piece:
                    raise self._ended()
                self._received.feed(piece)

    def _drain(self) -> None:
        piece = os.read(self._output, 1 << 16)
        if not piece:
            self._poll.unregister(self._output)
        self._printed += len(piece)
        if self._printed > self._limits.output_bytes:
            raise Decided(Outcome.FAILED, f"the program wrote more than {self._limits.output_bytes} bytes")

    def _broken(self) -> Decided:
        self.suspicions.append("disturbed the channel of answers")
        return Decided(Outcome.FORGED, "what came from the program was no answer to the question asked")

    def _too_late(self) -> Decided:
        return Decided(Outcome.TIMED_OUT, f"not done within {self._limits.seconds:g} s")

    def _ended(self) -> Decided:
        """What became of a program that no longer answers."""
        # If it only closed its pipe and lives on, the clock strikes while we wait.
        _, status = os.waitpid(self._program, 0)
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return Decided(Outcome.EARLY_EXIT, f"the program ended its process with status {code}")
        if -code == signal.SIGKILL:
            return Decided(Outcome.OUT_OF_MEMORY, "the system ended the program, most likely for memory")
        if -code == signal.SIGXCPU:
            return self._too_late()
        return Decided(Outcome.FAILED, f"the program crashed with {signal.Signals(-code).name}")


def _exception(name: str, text: str) -> Exception:
    """The built-in exception of that name, else one with the name in its text."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with contextlib.suppress(Exception):
            return kind(text)
    return Foreign(f"{name}: {text}")
