"""What a program returned, as plain values. Runs beside the program; nothing here has to be trusted.

A test compares values with `==`. So that the built-in `==` decides and never the program's, subclasses become the
built-in type below them (`Counter` a dict, a named tuple a tuple), and what has no such type becomes `Opaque`.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from .wire import MAX_DEPTH, Opaque, WireError


class OwnEquality(Exception):
    """The program returned an object whose class decides what it equals."""


def plain(value: Any, *, module: str, depth: int = 0) -> Any:
    """`value` out of exact built-in types.

    Args:
        module: the program's module name: classes of the program that define `__eq__` are refused.

    Raises:
        OwnEquality: such a class; the text is its name.
        WireError: nested deeper than the wire allows.
    """
    kind = type(value)
    if kind in _EXACT:
        return value
    if depth > MAX_DEPTH:
        raise WireError(f"nested deeper than {MAX_DEPTH}")
    for owner in kind.__mro__:
        if owner.__module__ == module and "__eq__" in vars(owner):
            raise OwnEquality(kind.__name__)

    def below(element: Any) -> Any:
        return plain(element, module=module, depth=depth + 1)

    # The base classes' own methods: a subclass may have replaced its.
    for base, read in _SCALARS.items():
        if isinstance(value, base):
            return read(value)
    if isinstance(value, list):
        return [below(element) for element in list.__iter__(value)]
    if isinstance(value, tuple):
        return tuple(below(element) for element in tuple.__iter__(value))
    if isinstance(value, dict):
        return {below(key): below(element) for key, element in dict.items(value)}
    if isinstance(value, frozenset):
        return frozenset(below(element) for element in frozenset.__iter__(value))
    if isinstance(value, Set):  # also the views of a dict, which equal sets
        return {below(element) for element in value}
    if kind.__module__ in ("decimal", "fractions"):
        return value
    return Opaque(kind.__name__, bool(value))


_EXACT = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_SCALARS: dict[type, Any] = {
    int: int.__index__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    bytearray: lambda value: bytes(memoryview(value)),
}
