"""Read protocol-buffer messages without the protobuf package: fields with their place in the bytes.

Enough for SentencePiece's ``.model`` files. Source of the format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH_DELIMITED: Final = 2
FIXED32: Final = 5


@dataclass(frozen=True)
class Field:
    """One field of a message: its number, its value's bytes, where they start, and a varint's value."""

    number: int
    wire_type: int
    data: bytes
    offset: int
    """Index in the whole buffer of the first byte of ``data``."""
    value: int
    """The number if the field is a varint, else 0."""


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(buffer) or shift > 63:
            raise ValueError(f"byte {at} of the message is not the end of a varint: the file is damaged")
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def fields(buffer: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message in ``buffer[start:end]``, in file order.

    Raises:
        ValueError: the bytes are not a protocol-buffer message.
    """
    at, stop = start, len(buffer) if end is None else end
    while at < stop:
        tag, at = _varint(buffer, at)
        number, wire_type = tag >> 3, tag & 7
        value = 0
        begin = at
        if wire_type == VARINT:
            value, at = _varint(buffer, at)
        elif wire_type == LENGTH_DELIMITED:
            size, begin = _varint(buffer, at)
            at = begin + size
        elif wire_type in (FIXED32, FIXED64):
            at += 4 if wire_type == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire_type} at byte {begin} is unknown: the file is damaged")
        if at > stop:
            raise ValueError(f"field {number} at byte {begin} runs past the end of its message: the file is cut off")
        yield Field(number, wire_type, buffer[begin:at], begin, value)
