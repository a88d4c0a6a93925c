"""Programs that take too much are ended, and by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evals.sandbox import Limits, Outcome, Program, Verdict, open_sandbox
from evals.sandbox.sandbox import Sandbox

RunOne = Callable[..., Verdict]

GREEDY = {
    "a gigabyte at once": "def f(x):\n    return len(bytearray(1 << 30))\n",
    "a gigabyte bit by bit": (
        "def f(x):\n    pieces = []\n    while True:\n        pieces.append(bytearray(1 << 20))\n"
    ),
    "a gigabyte while loading": "kept = ' ' * (1 << 30)\ndef f(x):\n    return x * x\n",
    "memory it hides from": (
        "def f(x):\n    kept = []\n    try:\n        while True:\n            kept.append('x' * (1 << 20))\n"
        "    except MemoryError:\n        return 'y' * (1 << 28)\n"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GREEDY)
def test_too_much_memory(run_one: RunOne, name: str) -> None:
    assert run_one(GREEDY[name]).outcome is Outcome.OUT_OF_MEMORY


def test_recursion_without_end(run_one: RunOne) -> None:
    """CPython 3.11 turns the missing memory into a MemoryError or a SystemError, as it happens."""
    code = "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x):\n    kept = [0] * 10000\n    return f(x)\n"

    assert run_one(code).outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED)


def test_mapped_memory_counts_too(run_one: RunOne) -> None:
    verdict = run_one("import mmap\ndef f(x):\n    m = mmap.mmap(-1, 1 << 30)\n    return len(m.read())\n")

    assert verdict.outcome in (Outcome.OUT_OF_MEMORY, Outcome.FAILED)
    assert verdict.outcome is Outcome.OUT_OF_MEMORY or "memory" in verdict.message


SLOW = {
    "a loop": "def f(x):\n    while True: pass\n",
    "a loop while loading": "while True: pass\n",
    "sleep": "import time\ndef f(x):\n    time.sleep(1000)\n",
    "a loop that catches everything": (
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n"
    ),
    "one long operation": "def f(x):\n    return 7 ** (10 ** 9) if len(str(x)) else 0\n",
    "a pattern that backtracks": "import re\ndef f(x):\n    return re.match('(a+)+$', 'a' * 60 + 'b')\n",
    "a loop behind ignored signals": (
        "import signal\nfor n in (2, 14, 15, 24):\n    signal.signal(n, 1)\ndef f(x):\n    while True: pass\n"
    ),
    "waiting for input from a pipe": "import os\ndef f(x):\n    os.read(os.pipe()[0], 1)\n",
    "silence after closing its pipes": ("import os, time\ndef f(x):\n    os.closerange(3, 32)\n    time.sleep(1000)\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_too_much_time(run_hastily: RunOne, name: str) -> None:
    verdict = run_hastily(SLOW[name])

    # The long operation may first meet the limit of memory.
    assert verdict.outcome is Outcome.TIMED_OUT or (
        name == "one long operation" and verdict.outcome is Outcome.OUT_OF_MEMORY
    )
    assert verdict.seconds < 5


LOUD = {
    "a gigabyte printed": "def f(x):\n    for _ in range(1 << 20):\n        print('x' * 1024)\n    return x * x\n",
    "a gigabyte written": "import os\ndef f(x):\n    for _ in range(1 << 14):\n        os.write(2, b'x' * (1 << 16))\n",
    "printing while loading": "import sys\nwhile True:\n    sys.stderr.write('x' * 4096)\n",
    "a long answer": "def f(x):\n    return 'x' * (2 << 20)\n",
}


@pytest.mark.parametrize("name", LOUD)
def test_too_much_output(run_one: RunOne, name: str) -> None:
    verdict = run_one(LOUD[name])

    assert verdict.outcome is Outcome.FAILED
    assert "more than" in verdict.message


def test_a_little_output_is_allowed(run_one: RunOne) -> None:
    code = (
        "import sys\ndef f(x):\n    print('x' * 1000)\n    print('y', file=sys.stderr, flush=True)\n    return x * x\n"
    )

    assert run_one(code).outcome is Outcome.PASSED


CRASHES = {
    "recursion": ("def f(x):\n    return f(x)\n", "RecursionError"),
    "nested brackets": ("def f(x):\n    return " + "(" * 5000 + ")" * 5000 + "\n", ""),
    "a null pointer": ("import ctypes\ndef f(x):\n    ctypes.string_at(0)\n", "SIGSEGV"),
    # A crash or an exception, as the version of CPython has it.
    "recursion in C": (
        "import sys\nsys.setrecursionlimit(10 ** 6)\n"
        "def f(x):\n    a = []\n    for _ in range(20000):\n        a = [a]\n    return len(repr(a))\n",
        "",
    ),
    "division": ("def f(x):\n    return 1 / 0\n", "ZeroDivisionError"),
    "abort": ("import os\ndef f(x):\n    os.abort()\n", "crashed"),
}


@pytest.mark.parametrize("name", CRASHES)
def test_crashes_fail(run_one: RunOne, name: str) -> None:
    code, part = CRASHES[name]
    verdict = run_one(code)

    assert verdict.outcome in (Outcome.FAILED, Outcome.OUT_OF_MEMORY)
    assert part in verdict.message


def test_an_answer_deeper_than_the_wire(run_one: RunOne) -> None:
    verdict = run_one("def f(x):\n    a = []\n    for _ in range(500):\n        a = [a]\n    return a\n")

    assert verdict.outcome is Outcome.FAILED
    assert "nested deeper" in verdict.message


@pytest.mark.slow
def test_a_test_that_is_busy_with_an_answer(run_hastily: RunOne) -> None:
    """Where the judge's own clock cannot interrupt it, the limit of processor time ends the judge."""
    test = "def check(candidate):\n    assert candidate(1) ** (10 ** 9) == 1\n"

    verdict = run_hastily("def f(x):\n    return 7\n", test)

    assert verdict.outcome in (Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY)


def test_a_test_that_catches_everything_does_not_hide_a_decision(run_hastily: RunOne) -> None:
    test = "def check(candidate):\n    try:\n        candidate(1)\n    except:\n        pass\n"

    assert run_hastily("def f(x):\n    while True: pass\n", test).outcome is Outcome.TIMED_OUT
    assert run_hastily("def f(x):\n    raise SystemExit\n", test).outcome is Outcome.EARLY_EXIT


@pytest.mark.parametrize("name", ["seconds", "memory_bytes", "output_bytes", "answer_bytes", "open_files"])
def test_limits_are_above_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 is not allowed"):
        Limits(**{name: 0})


def test_limits_are_those_asked_for(sandbox: Sandbox) -> None:
    narrow = open_sandbox(limits=Limits(seconds=5, output_bytes=10, answer_bytes=4096), levels=(sandbox.level,))
    test = "def check(candidate):\n    assert candidate(2)\n"
    printing = Program(code="def f(x):\n    print('x' * 20, flush=True)\n    return 1\n", test=test, entry_point="f")
    answering = Program(code="def f(x):\n    return 'x' * 8192\n", test=test, entry_point="f")

    messages = [verdict.message for verdict in narrow.run([printing, answering])]

    assert messages == ["the program wrote more than 10 bytes", "the program returned more than 4096 bytes"]
