"""Plain values as bytes and back, for pipes whose other end is not trusted.

`pickle` runs code, `marshal` may crash on bad bytes, `json` has neither tuples nor sets: so a small format of our own.
Reading builds nothing but exact built-in types, `Decimal`, `Fraction` and `Opaque`, never deeper than `MAX_DEPTH`.

    N T F                none, true, false
    i1f;  f0x1.8p+0;     whole number in hexadecimal, float as float.hex (exact, with nan and inf)
    c<float>,<float>;    complex
    D1.5;  Q1/3;         Decimal, Fraction
    s3:abc  b3:abc       text in UTF-8 (lone surrogates kept), bytes; the number counts bytes
    l2: t2: S2: Z2:      list, tuple, set, frozenset of so many values
    d2:                  dict of so many keys, each followed by its value
    O<text>T             a value that is not plain: its type's name, and whether it is true

A frame is four bytes of length, most significant first, and that many bytes of one value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

MAX_DEPTH = 100
HEADER_BYTES = 4
_TEXT = ("utf-8", "surrogatepass")


class WireError(ValueError):
    """Bytes that are no value, or a value that is not plain."""


class FrameTooLong(WireError):
    """A frame that announces more bytes than its reader allows."""


class EndOfStream(Exception):
    """The other end has gone."""


class Opaque:
    """Stands for a returned value that is not plain. It equals nothing but itself.

    Attributes:
        type_name: the type's name.
        truth: what `bool` of the value is.
    """

    __slots__ = ("truth", "type_name")

    def __init__(self, type_name: str, truth: bool) -> None:
        self.type_name = type_name
        self.truth = truth

    def __bool__(self) -> bool:
        return self.truth

    def __repr__(self) -> str:
        return f"<{self.type_name}>"


def encode(value: object) -> bytes:
    """The bytes of a plain value.

    Raises:
        WireError: it holds something that is not plain, or is nested deeper than `MAX_DEPTH`.
    """
    parts: list[bytes] = []
    _write(value, parts, 0)
    return b"".join(parts)


def _write(value: object, parts: list[bytes], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireError(f"nested deeper than {MAX_DEPTH}")
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is not None:
        parts.append(writer(value))
    elif kind in _SEQUENCES:
        assert isinstance(value, list | tuple | set | frozenset)
        parts.append(b"%b%d:" % (_SEQUENCES[kind], len(value)))
        for element in value:
            _write(element, parts, depth + 1)
    elif isinstance(value, dict) and kind is dict:
        parts.append(b"d%d:" % len(value))
        for key, element in value.items():
            _write(key, parts, depth + 1)
            _write(element, parts, depth + 1)
    elif isinstance(value, Opaque):
        parts += b"O", _sized(b"s", value.type_name.encode(*_TEXT)), b"T" if value.truth else b"F"
    elif kind.__module__ in ("decimal", "_decimal", "_pydecimal") and kind.__name__ == "Decimal":
        parts.append(b"D%b;" % str(value).encode())
    elif kind.__module__ == "fractions" and kind.__name__ == "Fraction":
        parts.append(b"Q%b;" % str(value).encode())
    else:
        raise WireError(f"a {kind.__name__} is not plain")


def _sized(tag: bytes, data: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(data), data)


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda value: b"N",
    bool: lambda value: b"T" if value else b"F",
    # Hexadecimal, since Python refuses decimal texts of more than 4,300 digits.
    int: lambda value: b"i%b;" % format(value, "x").encode(),
    float: lambda value: b"f%b;" % value.hex().encode(),
    complex: lambda value: b"c%b,%b;" % (value.real.hex().encode(), value.imag.hex().encode()),
    str: lambda value: _sized(b"s", value.encode(*_TEXT)),
    bytes: lambda value: _sized(b"b", value),
    bytearray: lambda value: _sized(b"b", bytes(value)),
}
_SEQUENCES: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}


def decode(data: bytes) -> Any:
    """The value of some bytes.

    Raises:
        WireError: they are not exactly one value.
    """
    reader = _Reader(data)
    try:
        value = reader.value(0)
    except WireError:
        raise
    except (ValueError, TypeError, ArithmeticError, IndexError) as error:
        raise WireError(f"no value at byte {reader.at}") from error
    if reader.at != len(data):
        raise WireError(f"{len(data) - reader.at} bytes follow the value")
    return value


class _Reader:
    """A place in some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def value(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise WireError(f"nested deeper than {MAX_DEPTH}")
        tag = self._take(1)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _SCALARS:
            return _SCALARS[tag](self._until(b";"))
        if tag in (b"s", b"b"):
            data = self._take(self._count())
            return data.decode(*_TEXT) if tag == b"s" else data
        if tag in _COLLECTIONS:
            return _COLLECTIONS[tag](self.value(depth + 1) for _ in range(self._count()))
        if tag == b"d":
            # A display's key is read before its value, as it was written.
            return {self.value(depth + 1): self.value(depth + 1) for _ in range(self._count())}
        if tag == b"O":
            name, truth = self.value(depth + 1), self.value(depth + 1)
            if isinstance(name, str) and isinstance(truth, bool):
                return Opaque(name, truth)
        raise WireError(f"no value at byte {self.at}")

    def _take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise WireError("the value ends early")
        self.at += count
        return piece

    def _until(self, end: bytes) -> str:
        stop = self.data.index(end, self.at)
        piece = self.data[self.at : stop]
        self.at = stop + 1
        return piece.decode("ascii")

    def _count(self) -> int:
        digits = self._until(b":")
        # Every value takes a byte or more: a count beyond the bytes is refused before it costs anything.
        if not digits.isdigit() or len(digits) > 10 or int(digits) > len(self.data) - self.at:
            raise WireError(f"{digits[:10]!r} is no count")
        return int(digits)


def _complex(text: str) -> complex:
    real, imaginary = text.split(",")
    return complex(float.fromhex(real), float.fromhex(imaginary))


def _decimal(text: str) -> object:
    from decimal import Decimal

    return Decimal(text)


def _fraction(text: str) -> object:
    from fractions import Fraction

    numerator, _, denominator = text.partition("/")
    return Fraction(int(numerator), int(denominator or "1"))


_CONSTANTS: dict[bytes, bool | None] = {b"N": None, b"T": True, b"F": False}
_SCALARS: dict[bytes, Callable[[str], Any]] = {
    b"i": lambda text: int(text, 16),
    b"f": float.fromhex,
    b"c": _complex,
    b"D": _decimal,
    b"Q": _fraction,
}
_COLLECTIONS: dict[bytes, Callable[[Iterable[Any]], Any]] = {b"l": list, b"t": tuple, b"S": set, b"Z": frozenset}


def frame(value: object) -> bytes:
    """One value with its length in front.

    Raises:
        WireError: the value is not plain.
    """
    data = encode(value)
    return len(data).to_bytes(HEADER_BYTES, "big") + data


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`.

    Raises:
        EndOfStream: nobody reads any more.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BrokenPipeError as error:
            raise EndOfStream from error


def read_frame(descriptor: int, max_bytes: int) -> Any:
    """Wait for one frame and take not a byte more.

    Raises:
        EndOfStream: the other end closed before the frame was whole.
        WireError: the bytes are no value.
        FrameTooLong: more than `max_bytes`.
    """
    length = int.from_bytes(_read_exactly(descriptor, HEADER_BYTES), "big")
    if length > max_bytes:
        raise FrameTooLong(f"{length} bytes are more than {max_bytes}")
    return decode(_read_exactly(descriptor, length))


def _read_exactly(descriptor: int, count: int) -> bytes:
    pieces: list[bytes] = []
    while count:
        piece = os.read(descriptor, min(count, 1 << 16))
        if not piece:
            raise EndOfStream
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


class FrameBuffer:
    """Bytes that arrive in pieces, for a reader that watches more than one descriptor.

    Args:
        max_bytes: the longest frame allowed.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, piece: bytes) -> None:
        """Add what arrived."""
        self._data += piece

    def take(self) -> bytes | None:
        """The bytes of the next value, or `None` until it is whole.

        Raises:
            FrameTooLong: it announces more than `max_bytes`.
        """
        if len(self._data) < HEADER_BYTES:
            return None
        length = int.from_bytes(self._data[:HEADER_BYTES], "big")
        if length > self._max_bytes:
            raise FrameTooLong(f"{length} bytes are more than {self._max_bytes}")
        if len(self._data) < HEADER_BYTES + length:
            return None
        data = bytes(self._data[HEADER_BYTES : HEADER_BYTES + length])
        del self._data[: HEADER_BYTES + length]
        return data
