"""The self-test of a level: it is used only if it holds what it must hold, on this machine, now.

Two views of it: the sandbox's first process tries what must not work before any filter of system calls is in place, so
that namespaces and mounts hold by themselves; then small programs go the way every program goes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.sandbox.errors import LevelUnavailable, WorkerFault
from evals.sandbox.inside.limits import Limits
from evals.sandbox.inside.outcomes import Outcome
from evals.sandbox.levels import Level
from evals.sandbox.program import Program
from evals.sandbox.worker import Worker

_VARIABLE = "EVALS_SANDBOX_CANARY"
_REPOSITORY_FILE = Path(__file__).resolve().parents[1] / "errors.py"
_LOOP_SECONDS = 0.3

_TEST = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate([]) is None\n"
_RIGHT = "def f(x):\n    return x + 1 if x else None\n"
_HELD_TEST = "def check(candidate):\n    worked = candidate()\n    assert worked == [], worked\n"
# The program answers with what worked of what must not. Should it all work, no harm is done: it touches only what the
# canaries made, and signals nobody (signal 0 only asks whether one may).
_HELD = """
def f():
    import os, socket, threading
    def fork():
        if os.fork() == 0:
            os._exit(0)
    attempts = {
        "reading outside": [lambda path=path: open(path).read() for path in FILES],
        "writing outside": [lambda: os.open(FILES[0], os.O_WRONLY)],
        "making files": [lambda: os.open(FILES[0] + "-made", os.O_CREAT | os.O_WRONLY)],
        "connecting": [lambda: socket.create_connection(("127.0.0.1", PORT), 1), socket.socket],
        "starting a process": [fork, lambda: os.execv("/bin/true", ["true"])],
        "starting a thread": [threading.Thread(target=int).start],
        "signalling": [lambda: os.kill(os.getppid(), 0), lambda: os.kill(1, 0)],
    }
    worked = []
    for name, ways in attempts.items():
        for way in ways:
            try:
                way()
                worked.append(name)
            except (OSError, RuntimeError):
                pass
    return worked
"""


def check_level(level: Level, limits: Limits) -> dict[str, Any]:
    """Run the canaries.

    Returns:
        What the sandbox reports about itself: `python`, and `landlock` where it is confined.

    Raises:
        LevelUnavailable: the level does not start, or one canary shows that it does not hold.
    """
    with _outside() as look, Worker(level, limits, look=look) as worker:
        report = dict(worker.report)
        if level is not Level.NONE:
            _check_view(report.pop("seen"))
        report.pop("seen", None)
        for name, program, expected in _programs(level, limits, look):
            _check_program(worker, name, program, expected)
    short = replace(limits, seconds=min(_LOOP_SECONDS, limits.seconds))
    with Worker(level, short) as worker:
        endless = Program(code="def f(x):\n    while True:\n        pass\n", test=_TEST, entry_point="f")
        _check_program(worker, "an endless loop", endless, Outcome.TIMED_OUT)
    return report


def _check_program(worker: Worker, name: str, program: Program, expected: Outcome) -> None:
    try:
        verdict = worker.run(program)
    except WorkerFault as fault:
        raise LevelUnavailable(f"self-test: {name}: {fault}") from fault
    if verdict.outcome is not expected:
        raise LevelUnavailable(f"self-test: {name} came out as {verdict.outcome}, not {expected} ({verdict.message})")


def _check_view(seen: dict[str, Any]) -> None:
    """Raises `LevelUnavailable` naming everything the first process could do and must not."""
    rules = {
        "files outside can be read": bool(seen["readable"]),
        "folders outside can be written": bool(seen["writable"]),
        "the network can be reached": bool(seen["reached"] or seen["interfaces"]),
        "the environment can be read": bool(seen["environment"]),
        "programs run as root": seen["user"] == 0,
        "programs keep capabilities": seen["capabilities"] != 0,
        "other processes are in sight": seen["process"] != 1,
    }
    broken = [rule for rule, is_broken in rules.items() if is_broken]
    if broken:
        raise LevelUnavailable(f"self-test: {', '.join(broken)}")


def _programs(level: Level, limits: Limits, look: dict[str, Any]) -> Iterator[tuple[str, Program, Outcome]]:
    def program(code: str, test: str = _TEST) -> Program:
        return Program(code=code, test=test, entry_point="f")

    yield "a right program", program(_RIGHT), Outcome.PASSED
    yield "a wrong program", program("def f(x):\n    return x\n"), Outcome.FAILED
    yield "leaving with status 0", program("def f(x):\n    import os\n    os._exit(0)\n"), Outcome.EARLY_EXIT
    if level is Level.NONE:
        return
    greedy = f"def f(x):\n    return len(bytearray({2 * limits.memory_bytes}))\n"
    yield "taking too much memory", program(greedy), Outcome.OUT_OF_MEMORY
    constants = f"FILES = {look['files']!r}\nPORT = {look['port']!r}\n"
    yield "trying to get out", program(constants + _HELD, _HELD_TEST), Outcome.PASSED


@contextlib.contextmanager
def _outside() -> Iterator[dict[str, Any]]:
    """Things outside that must be out of reach: files, folders, a listener, a variable."""
    before = os.environ.get(_VARIABLE)
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        secret = Path(folder) / "canary"
        secret.write_text("canary")
        os.environ[_VARIABLE] = "set"
        try:
            yield {
                "files": [str(secret), str(_REPOSITORY_FILE), "/etc/passwd", "/proc/1/environ", "/proc/self/environ"],
                "folders": [
                    folder,
                    str(_REPOSITORY_FILE.parent),
                    "/",
                    "/tmp",
                    "/var/tmp",
                    "/dev/shm",
                    str(Path.home()),
                ],
                "port": listener.getsockname()[1],
                "variable": _VARIABLE,
            }
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before
