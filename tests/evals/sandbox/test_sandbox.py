"""Choosing a level, running many programs, and faults that are not the programs'."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.errors import EvaluationError
from evals.sandbox import (
    Level,
    Limits,
    Outcome,
    Program,
    Sandbox,
    SandboxUnavailable,
    Verdict,
    canaries,
    levels,
    open_sandbox,
    worker,
)
from evals.sandbox.errors import LevelUnavailable

TEST = "def check(candidate):\n    assert candidate(2) == 4\n"
RIGHT = Program(code="def f(x):\n    return x * x\n", test=TEST, entry_point="f")
WRONG = Program(code="def f(x):\n    return x\n", test=TEST, entry_point="f")
Command = Callable[[Level], tuple[list[str], dict[str, str]]]


def test_verdicts_keep_their_order(sandbox: Sandbox) -> None:
    counts: list[int] = []
    threads = set()

    def progress(count: int) -> None:
        counts.append(count)
        threads.add(threading.current_thread())

    slow = Program(code="import time\ntime.sleep(0.2)\n" + RIGHT.code, test=TEST, entry_point="f")
    verdicts = sandbox.run([slow, WRONG, RIGHT, WRONG, RIGHT], workers=2, progress=progress)

    assert [verdict.outcome for verdict in verdicts] == ["passed", "failed", "passed", "failed", "passed"]
    assert sum(counts) == 5
    assert threads == {threading.current_thread()}


def test_nothing_to_run(sandbox: Sandbox) -> None:
    assert sandbox.run([]) == []


def test_workers_must_be_some(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="workers=0 is not allowed"):
        sandbox.run([RIGHT], workers=0)


def test_an_interruption_ends_the_run(sandbox: Sandbox) -> None:
    begun = threading.active_count()

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sandbox.run([RIGHT] * 500, workers=2, progress=interrupt)

    assert threading.active_count() == begun


def test_description_is_json_without_names_of_this_machine(sandbox: Sandbox) -> None:
    text = json.dumps(sandbox.describe())
    description = json.loads(text)

    assert description["level"] == sandbox.level
    assert description["sandboxed"] is True
    assert description["limits"]["memory_bytes"] == 256 << 20
    assert description["limits"]["processes"] == 1
    assert socket.gethostname() not in text.replace('"namespaces"', "")
    assert sys.base_prefix not in text


def test_entry_point_is_a_name() -> None:
    with pytest.raises(ValueError, match=r"entry_point='f\(\)' is not allowed"):
        Program(code="", test="", entry_point="f()")


def test_a_very_long_program(sandbox: Sandbox) -> None:
    long = Program(code=RIGHT.code + "#" * (17 << 20), test=TEST, entry_point="f")
    longish = Program(code=RIGHT.code + "#" * (1 << 20), test=TEST, entry_point="f")

    verdicts = sandbox.run([long, longish])

    assert [verdict.outcome for verdict in verdicts] == [Outcome.FAILED, Outcome.PASSED]


class Broken:
    """Stands in for a level's command line."""

    def __init__(self, code: str, *, after: int = 0) -> None:
        self.code = code
        self.started = 0
        self._after = after
        self._real = levels.command

    def __call__(self, level: Level) -> tuple[list[str], dict[str, str]]:
        self.started += 1
        if self.started <= self._after:
            return self._real(level)
        return [sys.executable, "-S", "-c", self.code], dict(os.environ)


# A worker that greets and then answers every request with the frames given.
IMPOSTOR = f"""
import sys, os
sys.path.insert(0, {str(levels.INSIDE.parent)!r})
from inside import wire
wire.read_frame(0, 1 << 20)
wire.write_all(1, wire.frame(("ready", {{"python": "3"}})))
while True:
    nonce = wire.read_frame(0, 1 << 24)[0]
    for words in FRAMES:
        wire.write_all(1, wire.frame(words))
"""
VERDICT = '("verdict", nonce, "passed", "", 0.1, [])'
FAULTS = {
    "ends at once": ("import sys; sys.exit(3)", "the sandbox has ended"),
    "says why": ("import sys; sys.exit('bwrap: no namespaces today')", "bwrap: no namespaces today"),
    # It stays until it is ended: gone before it is asked, it would be one that "has ended".
    "talks nonsense": (
        "import sys; print('x' * 99, flush=True); sys.stdin.read()",
        "the sandbox's words make no sense",
    ),
    "no verdict": (IMPOSTOR.replace("FRAMES", '[("done", 1)]'), "the judge ended with status 1 and no verdict"),
    "a failed judge": (IMPOSTOR.replace("FRAMES", f'[{VERDICT}, ("done", 1)]'), "the judge ended with status 1"),
    "odd words": (IMPOSTOR.replace("FRAMES", '["hello"]'), "the sandbox's words make no sense"),
    "an outcome nobody knows": (
        IMPOSTOR.replace("FRAMES", '[("verdict", nonce, "splendid", "", 0.1, []), ("done", 0)]'),
        "ValueError in the sandbox's own code",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_not_the_programs(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    code, message = FAULTS[name]
    broken = Broken(code)
    monkeypatch.setattr(worker, "command", broken)

    verdict = sandbox.run([RIGHT])[0]

    assert verdict.outcome is Outcome.INFRASTRUCTURE_FAULT
    assert verdict.message == message
    assert broken.started == 2


def test_a_fault_is_tried_again(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    real = levels.command
    broken = Broken("import sys; sys.exit(3)")

    def first_breaks(level: Level) -> tuple[list[str], dict[str, str]]:
        return broken(level) if broken.started == 0 else real(level)

    monkeypatch.setattr(worker, "command", first_breaks)

    assert [verdict.outcome for verdict in sandbox.run([RIGHT, WRONG], workers=1)] == ["passed", "failed"]


@pytest.mark.parametrize(
    "frames",
    [
        f'[{VERDICT.replace("nonce", repr("0" * 32))}, ("done", 0)]',
        f'[{VERDICT.replace("nonce", repr("é"))}, ("done", 0)]',
        f'[{VERDICT}, {VERDICT}, ("done", 0)]',
    ],
    ids=["another nonce", "no nonce", "two verdicts"],
)
def test_a_verdict_not_by_the_judge_alone_is_forged(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, frames: str
) -> None:
    broken = Broken(IMPOSTOR.replace("FRAMES", frames))
    monkeypatch.setattr(worker, "command", broken)

    verdict = sandbox.run([RIGHT])[0]

    assert verdict.outcome is Outcome.FORGED
    assert broken.started == 1


def test_a_sandbox_that_hangs(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_START_SECONDS", 0.3)
    monkeypatch.setattr(worker, "command", Broken("import time; time.sleep(60)"))
    started = time.monotonic()

    verdict = sandbox.run([RIGHT])[0]

    assert verdict.outcome is Outcome.INFRASTRUCTURE_FAULT
    assert verdict.message == "the sandbox does not answer"
    assert time.monotonic() - started < 20


def test_no_process_is_left(sandbox: Sandbox) -> None:
    """Also of a run whose programs had to be ended."""
    hanging = Program(code="while True: pass\n", test=TEST, entry_point="f")
    Sandbox(sandbox.level, Limits(seconds=0.3), report={}, refused={}).run([hanging, RIGHT], workers=2)

    def children() -> set[str]:
        return {
            path.parent.name
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if b"inside.server" in _read(path) and _parent_is_gone_or_ours(path.parent)
        }

    deadline = time.monotonic() + 5
    while children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not children()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parent_is_gone_or_ours(process: Path) -> bool:
    parent = next((line.split()[1] for line in _read(process / "status").splitlines() if b"PPid" in line), b"")
    return parent in (b"1", str(os.getpid()).encode())


def test_unavailable_names_every_level_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels.shutil, "which", lambda name: None)

    def no_namespaces(level: Level) -> tuple[list[str], dict[str, str]]:
        if level is Level.BUBBLEWRAP:
            return levels.command(level)
        return [sys.executable, "-S", "-c", "import sys; sys.exit('unshare: Operation not permitted')"], {}

    monkeypatch.setattr(worker, "command", no_namespaces)

    with pytest.raises(SandboxUnavailable) as caught:
        open_sandbox()

    text = str(caught.value)
    assert isinstance(caught.value, EvaluationError)
    assert "bubblewrap: bwrap is not installed" in text
    assert "namespaces: unshare: Operation not permitted" in text
    assert "install bubblewrap" in text
    assert "allow_unsandboxed" in text


def test_unsandboxed_has_to_be_asked_for_and_is_stamped() -> None:
    with pytest.raises(SandboxUnavailable):
        open_sandbox(levels=())

    bare = open_sandbox(levels=(), allow_unsandboxed=True)

    assert bare.level is Level.NONE
    assert bare.describe()["sandboxed"] is False
    outcomes = [verdict.outcome for verdict in bare.run([RIGHT, WRONG], workers=1)]
    assert outcomes == [Outcome.PASSED, Outcome.FAILED]


def test_unsandboxed_still_keeps_test_and_program_apart() -> None:
    bare = Sandbox(Level.NONE, Limits(seconds=5), report={}, refused={})
    leaving = Program(code="import os\nos._exit(0)\n", test=TEST, entry_point="f")
    equal = Program(
        code="class Same:\n    __eq__ = lambda s, o: True\ndef f(x): return Same()\n", test=TEST, entry_point="f"
    )

    outcomes = [verdict.outcome for verdict in bare.run([leaving, equal])]

    assert outcomes == [Outcome.EARLY_EXIT, Outcome.FORGED]


def test_the_strongest_level_comes_first() -> None:
    try:
        chosen = open_sandbox()
    except SandboxUnavailable as error:
        if os.environ.get("CI"):  # where bubblewrap is installed
            raise
        pytest.skip(str(error))

    assert chosen.level is Level.BUBBLEWRAP or Level.BUBBLEWRAP in chosen.refused


SEEN = {
    "readable": [],
    "writable": [],
    "reached": False,
    "environment": False,
    "user": 1000,
    "process": 1,
    "capabilities": 0,
    "interfaces": [],
}
LEAKS = {
    "readable": (["/etc/passwd"], "files outside can be read"),
    "writable": (["/tmp"], "folders outside can be written"),
    "reached": (True, "the network can be reached"),
    "interfaces": (["eth0"], "the network can be reached"),
    "environment": (True, "the environment can be read"),
    "user": (0, "programs run as root"),
    "process": (1234, "other processes are in sight"),
    "capabilities": (41, "programs keep capabilities"),
}


def test_a_tight_view_is_accepted() -> None:
    canaries._check_view(SEEN)


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_refuses_the_level(name: str) -> None:
    value, rule = LEAKS[name]
    with pytest.raises(LevelUnavailable, match=rule):
        canaries._check_view({**SEEN, name: value})


def test_canaries_notice_a_level_that_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started without any confinement, the same programs refuse the level."""
    real = levels.command
    monkeypatch.setattr(worker, "command", lambda level: real(Level.NONE))
    monkeypatch.setattr(worker, "readable_folders", lambda level: None)

    with pytest.raises(LevelUnavailable) as caught:
        canaries.check_level(Level.BUBBLEWRAP, Limits())

    for rule in ("files outside", "folders outside", "network", "other processes"):
        assert rule in str(caught.value)


def test_canaries_notice_a_missing_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a first process that sees nothing amiss, the canary programs still find what works."""
    real = levels.command
    monkeypatch.setattr(worker, "command", lambda level: real(Level.NONE))
    monkeypatch.setattr(worker, "readable_folders", lambda level: None)
    monkeypatch.setattr(canaries, "_check_view", lambda seen: None)

    with pytest.raises(LevelUnavailable, match="trying to get out came out as failed"):
        canaries.check_level(Level.BUBBLEWRAP, Limits())


def test_a_verdict_is_frozen() -> None:
    verdict = Verdict(outcome=Outcome.PASSED, message="", seconds=0.1, suspicions=())
    with pytest.raises(AttributeError):
        verdict.outcome = Outcome.FAILED  # type: ignore[misc]
