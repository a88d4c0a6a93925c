"""A test's code: its namespace, and one line on what it found."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from types import CodeType
from typing import Any

from .outcomes import Decided

_FILE = "<test>"
_MAX_LINE = 200


class Misplaced(Exception):
    """The test, or the part of the prompt it uses, does not run by itself: not the program's fault."""


def namespace(code: str, test: str, entry_point: str) -> dict[str, Any]:
    """The test's names, `check` among them.

    Some of HumanEval's tests call functions of the prompt that stand before the entry point. Those are made here too,
    from the text before the entry point's `def`, which a completion cannot change, for it comes after. Of that text
    only imports and functions are used, and only if the test names one of the functions.

    Raises:
        Misplaced: it cannot be made.
    """
    names: dict[str, Any] = {"__name__": "test"}
    try:
        compiled = compile(test, _FILE, "exec")
        before = re.split(rf"^def {re.escape(entry_point)}\b", code, maxsplit=1, flags=re.MULTILINE)
        if len(before) == 2 and set(re.findall(r"^def (\w+)", before[0], re.MULTILINE)) & set(_names(compiled)):
            exec(_helpers(before[0]), names)
        exec(compiled, names)
    except Decided:
        raise
    except BaseException as error:
        raise Misplaced(f"the test does not run: {type(error).__name__}: {error}") from error
    if not callable(names.get("check")):
        raise Misplaced("the test defines no function check")
    return names


def _names(compiled: CodeType) -> Iterator[str]:
    yield from compiled.co_names
    for constant in compiled.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _helpers(prompt: str) -> CodeType:
    tree = ast.parse(prompt)
    tree.body = [part for part in tree.body if isinstance(part, ast.Import | ast.ImportFrom | ast.FunctionDef)]
    return compile(tree, "<prompt>", "exec")


def place(error: BaseException, test: str) -> str:
    """The line of the test that raised `error`."""
    lines = test.splitlines()
    step, number = error.__traceback__, 0
    while step is not None:
        if step.tb_frame.f_code.co_filename == _FILE:
            number = step.tb_lineno
        step = step.tb_next
    return f"line {number} of the test: {lines[number - 1].strip()}" if 0 < number <= len(lines) else "in the test"


def one_line(text: str) -> str:
    """At most 200 characters, on one line, all printable."""
    flat = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 4 * _MAX_LINE]).split())
    return flat if len(flat) <= _MAX_LINE else flat[: _MAX_LINE - 1] + "…"
