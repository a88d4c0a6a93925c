"""Runs a program and answers questions about it. This process is the program's: nothing it says is trusted.

Questions and answers are frames of `wire`; each answer carries its question's number.

    (n, "read", code)            → (n, "returned", suspicions)
    (n, "load", entry point)     → (n, "returned", None)
    (n, "call", args, kwargs)    → (n, "returned", value)
    (n, "end")                   → (n, "returned", None)
    instead of "returned":         (n, "raised", type, text), (n, "exited", text), (n, "own equality", type)
"""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Callable
from typing import Any

from .plain import OwnEquality, plain
from .suspicions import suspicions
from .wire import EndOfStream, WireError, frame, read_frame, write_all

MODULE = "completion"
_MAX_QUESTION = 64 << 20  # a test is the data set's; this only bounds a mistake
_MAX_TEXT = 500


def answer(questions: int, answers: int) -> None:
    """Answer until nobody asks any more.

    Args:
        questions, answers: descriptors to read from and to write to.
    """
    # Made while there is memory.
    no_memory = ("raised", "MemoryError", "")
    program = _Program()
    while True:
        try:
            number, verb, *arguments = read_frame(questions, _MAX_QUESTION)
        except EndOfStream:
            return
        try:
            reply = _attempt(lambda: program.verbs[verb](*arguments))  # noqa: B023 (called at once)
            data = frame((number, *reply))
        except MemoryError:
            data = frame((number, *no_memory))
        except WireError as error:
            data = frame((number, "raised", "WireError", str(error)[:_MAX_TEXT]))
        write_all(answers, data)


def _attempt(act: Callable[[], Any]) -> tuple[str, ...] | tuple[str, Any]:
    try:
        return "returned", plain(act(), module=MODULE)
    except OwnEquality as error:
        return "own equality", str(error)
    except SystemExit as error:
        return "exited", _text(error.code)
    except BaseException as error:
        return "raised", type(error).__name__, _text(error)


def _text(value: object) -> str:
    try:
        return str(value)[:_MAX_TEXT]
    except Exception:
        return ""


class _Program:
    """One program and its namespace."""

    def __init__(self) -> None:
        self.verbs: dict[str, Callable[..., Any]] = {
            "read": self._read,
            "load": self._load,
            "call": self._call,
            "end": lambda: None,
        }
        self._tree = ast.Module([], [])
        self._entry_point: Callable[..., Any] | None = None

    def _read(self, code: str) -> list[str]:
        self._tree = ast.parse(code, "<program>")
        return suspicions(self._tree)

    def _load(self, name: str) -> None:
        # A real module, which dataclasses and pickling look up; its name is not __main__.
        module = types.ModuleType(MODULE)
        sys.modules[MODULE] = module
        exec(compile(self._tree, "<program>", "exec"), vars(module))
        if not callable(vars(module).get(name)):
            raise NameError(f"the program defines no function {name}")
        self._entry_point = vars(module)[name]

    def _call(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        assert self._entry_point is not None
        return self._entry_point(*arguments, **keywords)
