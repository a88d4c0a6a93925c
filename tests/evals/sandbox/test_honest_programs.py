"""Right programs pass and wrong ones fail, as in HumanEval's own harness; where that differs, as written down."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from evals.sandbox import Outcome, Verdict

RunOne = Callable[..., Verdict]

# What a right function may return, and what the test compares it with.
EQUAL = {
    "whole number": ("10 ** 5000", "10 ** 5000"),
    "truth": ("True", "1"),
    "fraction of a float": ("0.1 + 0.2", "0.30000000000000004"),
    "infinity": ("float('-inf')", "-float('inf')"),
    "complex": ("3j * 1j", "-3"),
    "nothing": ("None", "None"),
    "text": ("'é\\ud800\\n\\0'", "'é\\ud800\\n\\0'"),
    "bytes": ("b'\\xff'", "b'\\xff'"),
    "bytearray": ("bytearray(b'a')", "b'a'"),
    "nested": ("[(1, {2: {3}}), [], {}]", "[(1, {2: {3}}), [], {}]"),
    "frozenset": ("{frozenset({1})}", "{frozenset({1})}"),
    "Counter": ("collections.Counter('aab')", "{'a': 2, 'b': 1}"),
    "defaultdict": ("collections.defaultdict(list, a=[1])", "{'a': [1]}"),
    "OrderedDict": ("collections.OrderedDict(b=1, a=2)", "{'a': 2, 'b': 1}"),
    "named tuple": ("collections.namedtuple('P', 'x y')(1, 2)", "(1, 2)"),
    "keys": ("{'a': 1}.keys()", "{'a'}"),
    "items": ("{'a': 1}.items()", "{('a', 1)}"),
    "Decimal": ("decimal.Decimal('0.5')", "0.5"),
    "Fraction": ("fractions.Fraction(1, 4)", "0.25"),
    "enumeration of numbers": ("enum.IntEnum('E', 'A B').B", "2"),
    "text's subclass": ("type('S', (str,), {})('a')", "'a'"),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_stay_equal(run_one: RunOne, name: str) -> None:
    returned, expected = EQUAL[name]
    code = f"import collections, decimal, enum, fractions\ndef f():\n    return {returned}\n"

    verdict = run_one(code, f"def check(candidate):\n    assert candidate() == {expected}\n")

    assert verdict.outcome is Outcome.PASSED, verdict


@pytest.mark.parametrize("returned", ["range(3)", "iter([0, 1, 2])", "(x for x in range(3))", "map(int, '012')", "f"])
def test_what_is_no_list_is_no_list(run_one: RunOne, returned: str) -> None:
    verdict = run_one(
        f"def f():\n    return {returned}\n", "def check(candidate):\n    assert candidate() == [0, 1, 2]\n"
    )

    assert verdict.outcome is Outcome.FAILED
    assert verdict.message == "line 2 of the test: assert candidate() == [0, 1, 2]"


MODULES = (
    "math typing hashlib collections re itertools functools heapq string random copy bisect statistics datetime "
    "decimal fractions operator json time calendar cmath numbers array struct textwrap unicodedata zlib enum abc"
)


def test_modules_that_programs_import(run_one: RunOne) -> None:
    code = f"import {', '.join(MODULES.split())}\ndef f(x):\n    return hashlib.md5(x.encode()).hexdigest()\n"
    test = "def check(candidate):\n    assert candidate('a') == '0cc175b9c0f1b6a831c399e269772661'\n"

    assert run_one(code, test).outcome is Outcome.PASSED


PASSES = {
    "a data class": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\ndef f(x):\n    return P(x).x ** 2\n"
    ),
    "printing": "def f(x):\n    print('squaring', x)\n    return x * x\n",
    "a main block": "def f(x):\n    return x * x\nif __name__ == '__main__':\n    raise SystemExit(1)\n",
    "recursion to a depth of 900": "def f(x, depth=900):\n    return f(x, depth - 1) if depth else x * x\n",
    "a longer recursion": (
        "import sys\nsys.setrecursionlimit(9999)\ndef f(x, n=9000):\n    return f(x, n - 1) if n else x * x\n"
    ),
    "a hundred MiB": "def f(x):\n    return x * x + 0 * len(bytearray(100 << 20))\n",
    "state between calls": "seen = []\ndef f(x):\n    seen.append(x)\n    return [4, 9][len(seen) - 1]\n",
    "names of the test": "def check(x):\n    return x * x\ncandidate = 1\ndef f(x):\n    return check(x)\n",
    "built-ins' names": "def len(x):\n    return x\nstr = 2\ndef f(x):\n    return len(x) ** str\n",
    "a lambda": "f = lambda x: x * x\n",
    "a class": "class f(int):\n    def __new__(cls, x):\n        return int.__new__(cls, x * x)\n",
    "future annotations": "from __future__ import annotations\ndef f(x: Undefined) -> Undefined:\n    return x * x\n",
    "another encoding declared": "# -*- coding: utf-8 -*-\ndef f(x):\n    return x * len('éé') if x == 2 else 9\n",
}


@pytest.mark.parametrize("name", PASSES)
def test_right_programs_pass(run_one: RunOne, name: str) -> None:
    verdict = run_one(PASSES[name])

    assert verdict.outcome is Outcome.PASSED, verdict
    assert verdict.message == ""
    assert 0 < verdict.seconds < 5


def test_exceptions_reach_the_test_by_type(run_one: RunOne) -> None:
    test = (
        "def check(candidate):\n    try:\n        candidate(1)\n    except KeyError as error:\n"
        "        assert 'gone' in str(error)\n    else:\n        assert False\n"
    )

    assert run_one("def f(x):\n    raise KeyError('gone')\n", test).outcome is Outcome.PASSED
    assert run_one("def f(x):\n    raise IndexError('gone')\n", test).message == "IndexError: gone"


def test_messages_name_what_happened(run_one: RunOne) -> None:
    def message(code: str) -> str:
        return run_one(code).message

    assert message("def f(x):\n    return x\n") == "line 2 of the test: assert candidate(2) == 4"
    assert message("def f(x):\n    return [][0]\n") == "IndexError: list index out of range"
    assert message("def f(x): return (\n").startswith("SyntaxError: '(' was never closed")
    assert message("class Odd(Exception): pass\ndef f(x):\n    raise Odd('so')\n") == "Odd: so"
    assert message("") == "NameError: the program defines no function f"
    assert message("def f(x):\n    raise ValueError('a\\n' * 999 + '\\x1b')\n") == f"ValueError: {'a ' * 93}a…"


def test_a_test_that_cannot_use_an_answer_names_its_line(run_one: RunOne) -> None:
    verdict = run_one("def f(x):\n    pass\n", "def check(candidate):\n    assert abs(candidate(1) - 1) < 0.1\n")

    assert verdict.outcome is Outcome.FAILED
    assert verdict.message.endswith("(line 2 of the test: assert abs(candidate(1) - 1) < 0.1)")


def test_arguments_arrive_as_copies(run_one: RunOne) -> None:
    """Written down as a difference: the test's own list is not the one the program changes."""
    test = "def check(candidate):\n    mine = [3, 1]\n    assert candidate(mine, key=None) == [1, 3]\n"
    test += "    assert mine == [3, 1]\n"

    assert run_one("def f(x, key):\n    x.sort(key=key)\n    return x\n", test).outcome is Outcome.PASSED


def test_runs_repeat(run_one: RunOne) -> None:
    """Sets of text iterate alike, and tests that draw at random draw alike."""
    code = "def f(x):\n    return list({'a', 'b', 'c', 'd', 'e', 'f', 'g'}) + [x]\n"
    test = "import random\ndef check(candidate):\n    assert 0, candidate(random.random())\n"

    first, second = run_one(code, test), run_one(code, test)

    assert first.message == second.message
    assert "'a'" in first.message


TESTS_AT_FAULT = {
    "no check": "x = 1\n",
    "no Python": "def check(candidate:\n",
    "an import that fails": "import nothing_of_this_name\ndef check(candidate): pass\n",
    "a program of its own": "raise SystemExit(0)\n",
}


@pytest.mark.parametrize("name", TESTS_AT_FAULT)
def test_a_test_that_does_not_run_is_not_the_programs_fault(run_one: RunOne, name: str) -> None:
    verdict = run_one("def f(x):\n    return x\n", TESTS_AT_FAULT[name])

    assert verdict.outcome is Outcome.INFRASTRUCTURE_FAULT
    assert verdict.message.startswith("the test ")


def test_messages_have_no_machine_paths(run_one: RunOne) -> None:
    code = "import sys, os\ndef f(x):\n    raise ValueError(' '.join([sys.prefix, os.__file__, sys.executable]))\n"

    message = run_one(code).message

    assert sys.base_prefix not in message
    assert "python" in message
